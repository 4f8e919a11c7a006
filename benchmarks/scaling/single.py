"""One process: time and peak memory of a product, Lanczos steps and a sweep step, over the number of parameters."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import memory

SIZES = (10**5, 10**6, 10**7, 10**8)
STEPS = 10
SETTLED = 2
TINY = 10**3  # what a model of so many parameters takes is code
MOST = 18 * 2**30  # bytes that the largest model may need, of which Lanczos takes some twenty vectors
LANCZOS = 22


def sweep(around: bool) -> Callable[[int], dict[str, Any]]:
    """Steps of SGD, inside of a range test or bare."""

    def run(size: int) -> dict[str, Any]:
        import torch

        from lrfinder import range_test

        made, batch = memory.problem(size)
        optimizer, marks, loss = torch.optim.SGD(made.model.parameters(), 1e-6), list[float](), torch.nn.functional.mse_loss

        def loss_fn(model: Any, batch: Any) -> Any:
            marks.append(time.perf_counter())
            return loss(model(batch[0]), batch[1])

        if around:
            options: Any = {"start_lr": 1e-8, "end_lr": 1e-6, "num_iter": STEPS, "progress": False}
            range_test(made.model, optimizer, [batch], loss_fn=loss_fn, **options)
        else:
            for _ in range(STEPS):
                optimizer.zero_grad()
                loss_fn(made.model, batch).backward()
                optimizer.step()
        gaps = [after - before for before, after in zip(marks[SETTLED:], marks[SETTLED + 1 :], strict=False)]
        return {"seconds": median(gaps), "vectors": memory.count(made)}

    return run


SUBJECTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "gradient": memory.gradient,
    "exact product": memory.product,
    "Lanczos step": memory.solver("full"),
    'Lanczos step, memory="low"': memory.solver("low"),
    "step": sweep(around=False),
    "sweep step": sweep(around=True),
}


def child(name: str, size: str) -> None:
    """Measure one subject in this process and print its figures."""
    found = SUBJECTS[name](int(size))
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(json.dumps(found))


def sizes() -> list[int]:
    """Those that fit."""
    free = int(next(line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))) * 1024
    return [size for size in SIZES if 4 * LANCZOS * size < min(free, MOST)]


def measure(script: Path) -> dict[str, Any]:
    """Every subject at every size, each in a process of its own, which ``script`` starts."""
    found: dict[str, Any] = {}
    for name in SUBJECTS:
        for size in (TINY, *sizes()):
            command = [sys.executable, str(script), "child", name, str(size)]
            found.setdefault(name, {})[str(size)] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def operations() -> float:
    """Floating-point operations of an exact product, its graph included, over those of a gradient: counted, for eight layers."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from hessian import HessianOperator, Problem

    model = torch.nn.Sequential(*(part for _ in range(8) for part in (torch.nn.Linear(64, 64), torch.nn.Tanh())))
    batch = torch.randn(32, 64), torch.randn(32, 64)
    problem = Problem(model, None, [batch], torch.nn.MSELoss())
    with FlopCounterMode(display=False) as gradient:
        problem.loss(batch).backward()
    with FlopCounterMode(display=False) as product:
        operator = HessianOperator(problem, [batch])
        operator @ torch.ones(operator.size)
    return product.get_total_flops() / gradient.get_total_flops()


def peak_vectors(rows: dict[str, Any], size: str) -> float:
    """Peak memory in vectors of four bytes a parameter, the weights included; that of the code is taken off."""
    return float(rows[size]["peak"] - rows[str(TINY)]["peak"]) / (4 * rows[size]["vectors"])
