"""How to measure curvature."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from hessian.checks import one_of, positive_float, positive_int, whole_number
from hessian.operators.base import Told
from hessian.operators.graphs import GRAPH_MEMORY
from hessian.solvers.krylov import KEPT, Kept
from hessian.solvers.stopping import Stop

Method = Literal["auto", "autograd", "finite_difference"]
Along = Literal["hessian", "update"]


@dataclass(frozen=True)
class CurvatureSettings:
    """See ``stable_lr``; checked when made.

    ``told`` hears of every step and product. The limit of the first step is measured where an LR of ``first_step_for`` would exceed the
    steady one, for it costs products of its own.
    """

    num_batches: int = 4
    tol: float = 0.01
    seed: int = 0
    max_hvps: int = 60
    method: Method = "auto"
    along: Along = "hessian"
    graph_memory: int = GRAPH_MEMORY
    memory: Kept = "full"
    first_step_for: float = math.inf
    stop: Stop = "guarded"
    told: Told | None = None

    def __post_init__(self) -> None:
        positive_int("num_batches", self.num_batches)
        positive_float("tol", self.tol)
        whole_number("seed", self.seed)
        positive_int("max_hvps", self.max_hvps, least=2)
        whole_number("graph_memory", self.graph_memory)
        one_of("memory", self.memory, KEPT)
        one_of("method", self.method, get_args(Method))
        one_of("along", self.along, get_args(Along))
