from .directional import critical_lr as critical_lr
from .directional import descent_limit as descent_limit
from .directional import online_sharpness as online_sharpness
from .directional import secant_lr as secant_lr
from .directional import smith_topin_lr as smith_topin_lr
from .directional import update_direction as update_direction
from .doubts import CurvatureDoubt as CurvatureDoubt
from .errors import CurvatureError as CurvatureError
from .geometry import PreconditionedOperator as PreconditionedOperator
from .limits import StabilityLimit as StabilityLimit
from .limits import stability_limit as stability_limit
from .monitor import SharpnessMonitor as SharpnessMonitor
from .noise import batch_sharpness as batch_sharpness
from .noise import noise_limit as noise_limit
from .operators.base import CurvatureOperator as CurvatureOperator
from .operators.choice import sharpness_by_parameter as sharpness_by_parameter
from .operators.finite_difference import FiniteDifferenceOperator as FiniteDifferenceOperator
from .operators.ggn import GGNOperator as GGNOperator
from .operators.hessian import HessianOperator as HessianOperator
from .problem import Problem as Problem
from .readings import SharpnessReading as SharpnessReading
from .readings import SharpnessRecord as SharpnessRecord
from .results import CriticalLR as CriticalLR
from .results import EigenResult as EigenResult
from .results import Estimate as Estimate
from .results import SpectralDensity as SpectralDensity
from .results import StableLR as StableLR
from .snapshot import preserve as preserve
from .solvers.density import spectral_density as spectral_density
from .solvers.lanczos import lanczos as lanczos
from .solvers.power import power_iteration as power_iteration
from .solvers.trace import effective_rank as effective_rank
from .solvers.trace import frobenius_norm as frobenius_norm
from .solvers.trace import trace as trace
from .stable import stable_lr as stable_lr

__all__ = [
    "CriticalLR",
    "CurvatureDoubt",
    "CurvatureError",
    "CurvatureOperator",
    "EigenResult",
    "Estimate",
    "FiniteDifferenceOperator",
    "GGNOperator",
    "HessianOperator",
    "PreconditionedOperator",
    "Problem",
    "SharpnessMonitor",
    "SharpnessReading",
    "SharpnessRecord",
    "SpectralDensity",
    "StabilityLimit",
    "StableLR",
    "batch_sharpness",
    "critical_lr",
    "descent_limit",
    "effective_rank",
    "frobenius_norm",
    "lanczos",
    "noise_limit",
    "online_sharpness",
    "power_iteration",
    "preserve",
    "secant_lr",
    "sharpness_by_parameter",
    "smith_topin_lr",
    "spectral_density",
    "stability_limit",
    "stable_lr",
    "trace",
    "update_direction",
]
