"""What the top eigenvalue of the Hessian of one batch costs, to 1 %, in gradients of that batch."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from itertools import islice
from typing import Any

import peers
import torch
from models import TASKS, Pair, Task, Training
from scipy.sparse.linalg import eigsh
from sweep_cost import cycle
from timing import Prepare, Run, Timings, interleave, quartiles, ratios

from hessian import HessianOperator, Problem, lanczos

ACCURACY = 0.01
REPEATS = 20  # gradients that are timed together
SEEDS = 20  # of our start vector, for the worst error
GRADIENT, OURS = "one gradient", "lrfinder"
BATCH = {"MLP": 512, "ResNet": 64, "GPT": 8}  # the MLP's training batches are so small that calling Python costs more than computing
PASSES = {"MLP": 5}
WARM_LR = 1e-3  # of the step between the weights that gave the start vector and those measured
TRAINED = 100  # steps before the second of the two measurements
STATES = {"at the start": 0, f"after {TRAINED} steps": TRAINED}

Solver = Callable[[Training, Pair, int], Run]


def gradients(training: Training, batch: Pair, seed: int) -> Run:
    """The unit, several times over: forward and backward pass as a training step makes them."""

    def run() -> None:
        for _ in range(REPEATS):
            training.backward(*batch)

    return run


def ours(training: Training, batch: Pair, seed: int) -> Run:
    """``hessian.lanczos``, problem and operator made anew."""
    return lambda: float(solve(training, batch, seed).values[0])


def solve(training: Training, batch: Pair, seed: int, **options: Any) -> Any:
    problem = Problem(training.model, None, [batch], training.criterion)
    return lanczos(HessianOperator(problem, [batch]), seed=seed, **{"tol": ACCURACY, **options})


def stopped_by(stop: str, training: Training, batch: Pair, seed: int) -> Run:
    """Another stop rule: the gap's, which promises nothing, or the bound's, which promises most."""
    return lambda: float(solve(training, batch, seed, stop=stop).values[0])


def warm(training: Training, batch: Pair, seed: int) -> Run:
    """From the result at the weights a step before, as a monitor would go on."""
    start = solve(training, batch, seed)
    parameters = [parameter for parameter in training.model.parameters() if parameter.requires_grad]
    before = [parameter.detach().clone() for parameter in parameters]
    training.backward(*batch)
    with torch.no_grad():
        for parameter in parameters:
            parameter.sub_(parameter.grad, alpha=WARM_LR)
    previous = solve(training, batch, seed, start=start)
    with torch.no_grad():
        for parameter, value in zip(parameters, before, strict=True):
            parameter.copy_(value)
    return lambda: float(solve(training, batch, seed, start=previous).values[0])


SOLVERS: dict[str, Solver] = {
    GRADIENT: gradients,
    OURS: ours,
    'lrfinder, stop="gap"': partial(stopped_by, "gap"),
    'lrfinder, stop="bound"': partial(stopped_by, "bound"),
    "lrfinder, warm start": warm,
    "curvlinops + SciPy eigsh": peers.curvlinops_eigsh,
    "hessian-eigenthings Lanczos, 10 iterations": partial(peers.eigenthings, solver="lanczos", which="LA", max_iter=10),
    "hessian-eigenthings Lanczos, 20 iterations": partial(peers.eigenthings, solver="lanczos", which="LA", max_iter=20),
    "hessian-eigenthings power iteration": partial(peers.eigenthings, solver="deflated_power_iteration", tol=ACCURACY),
}


def measure(rounds: int) -> dict[str, Any]:
    """For each state of training, task and solver: cost in gradients and relative error."""
    return {state: {name: measure_task(name, task, steps, rounds) for name, task in TASKS.items()} for state, steps in STATES.items()}


def measure_task(title: str, task: Task, steps: int, rounds: int) -> dict[str, Any]:
    training = trained(task, steps)
    inputs, target = task.samples()
    batch = inputs[: BATCH[title]], target[: BATCH[title]]
    exact = reference(training, batch)
    found = interleave({name: seeded(solver, training, batch) for name, solver in SOLVERS.items()}, rounds, PASSES.get(title, 1))
    unit = found.pop(GRADIENT)
    unit.seconds = [seconds / REPEATS for seconds in unit.seconds]
    return {
        "eigenvalue": exact,
        "gradient_seconds": quartiles(unit.seconds),
        "solvers": {name: summary(timings, unit, exact) for name, timings in found.items()},
        "seeds": over_seeds(training, batch, exact),
    }


def summary(timings: Timings, unit: Timings, exact: float) -> dict[str, Any]:
    """Cost in gradients round by round, and the worst error."""
    if timings.failure:
        return {"failure": timings.failure}
    costs = ratios(timings, unit)
    error = worst_error(timings.returned, exact)
    return {"cost": quartiles(costs), "costs": costs, "error": error, "accurate": error <= ACCURACY}


def trained(task: Task, steps: int) -> Training:
    """The training after some steps."""
    training = task.training()
    for batch in islice(cycle(training), steps):
        training.backward(*batch)
        training.optimizer.step()
    training.optimizer.zero_grad()
    return training


def reference(training: Training, batch: Pair) -> float:
    """The eigenvalue in float64, from SciPy's solver at a tolerance far below those measured."""
    model = deepcopy(training.model).double()
    inputs, target = (part.double() if part.is_floating_point() else part for part in batch)
    operator = HessianOperator(Problem(model, None, [(inputs, target)], training.criterion), [(inputs, target)])
    return float(eigsh(operator.to_scipy(), k=1, which="LA", tol=1e-8, return_eigenvectors=False)[0])


def seeded(solver: Solver, training: Training, batch: Pair) -> Prepare:
    """Every pass starts from another vector."""
    return lambda number: solver(training, batch, number)


def worst_error(values: list[float], exact: float) -> float:
    return max(abs(value / exact - 1) for value in values)


def over_seeds(training: Training, batch: Pair, exact: float) -> dict[str, Any]:
    """Our worst error over many start vectors, and the products that were needed."""
    results = [solve(training, batch, seed) for seed in range(SEEDS)]
    products = [result.hvps for result in results]
    return {
        "error": worst_error([float(result.values[0]) for result in results], exact),
        "products": [min(products), max(products)],
        "count": SEEDS,
    }
