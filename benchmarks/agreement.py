"""Whether we and the peers find the same top eigenvalue when all are asked for many digits."""

from __future__ import annotations

from typing import Any

import peers
from curvature_cost import BATCH, reference, solve, trained
from models import TASKS

ITERATIONS = 60  # of hessian-eigenthings, which does not stop by itself
TOLERANCE = 1e-6


def measure(rounds: int) -> dict[str, Any]:
    """Relative difference of every package's value to the one in float64, on the GPT at the start of training."""
    training = trained(TASKS["GPT"], 0)
    inputs, target = TASKS["GPT"].samples()
    batch = inputs[: BATCH["GPT"]], target[: BATCH["GPT"]]
    exact = reference(training, batch)
    found = {
        "lrfinder": float(solve(training, batch, 0, tol=TOLERANCE, stop="residual").values[0]),
        "curvlinops + SciPy eigsh": peers.curvlinops_eigsh(training, batch, 0, tol=TOLERANCE)(),
        "hessian-eigenthings Lanczos": peers.eigenthings(training, batch, 0, solver="lanczos", which="LA", max_iter=ITERATIONS)(),
    }
    return {name: abs(value / exact - 1) for name, value in found.items()}
