from .errors import CurvatureError as CurvatureError
from .limits import StabilityLimit as StabilityLimit
from .limits import stability_limit as stability_limit
from .operators.base import CurvatureOperator as CurvatureOperator
from .operators.hessian import HessianOperator as HessianOperator
from .operators.preconditioned import PreconditionedOperator as PreconditionedOperator
from .problem import Problem as Problem
from .results import EigenResult as EigenResult
from .results import StableLR as StableLR
from .snapshot import preserve as preserve
from .solvers.lanczos import lanczos as lanczos
from .solvers.power import power_iteration as power_iteration
from .stable import stable_lr as stable_lr

__all__ = [
    "CurvatureError",
    "CurvatureOperator",
    "EigenResult",
    "HessianOperator",
    "PreconditionedOperator",
    "Problem",
    "StabilityLimit",
    "StableLR",
    "lanczos",
    "power_iteration",
    "preserve",
    "stability_limit",
    "stable_lr",
]
