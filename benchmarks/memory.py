"""How memory and time grow with the model: of curvature beyond a gradient, of a whole measurement beyond the training itself.

Every figure comes from a process of its own, whose peak the operating system keeps. Writes ``benchmarks/results/memory.json`` and
``docs/memory.png``.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "memory.json"
FIGURE = HERE.parent / "docs" / "memory.png"
SIZES = (10**4, 10**5, 10**6, 10**7)
STEPS = 10  # of Lanczos, so that full memory holds ten vectors and low memory three
BATCH = 8


def problem(size: int) -> tuple[Any, Any]:
    """An MLP of about ``size`` parameters with one small batch, so that parameters outweigh activations."""
    import torch

    from hessian import HessianOperator, Problem, lanczos, spectral_density  # noqa: F401  # the same modules in every process

    torch.set_num_threads(1)
    torch.manual_seed(0)
    width = round((size / 2) ** 0.5)
    model = torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.Tanh(), torch.nn.Linear(width, width))
    batch = torch.randn(BATCH, width), torch.randn(BATCH, width)
    return Problem(model, None, [batch], torch.nn.MSELoss()), batch


def gradient(size: int) -> dict[str, Any]:
    """One forward and backward pass."""
    import torch

    made, batch = problem(size)
    parameters = list(made.parameters.values())
    return {"seconds": best_time(lambda: torch.autograd.grad(made.loss(batch), parameters)), "vectors": count(made)}


def product(size: int) -> dict[str, Any]:
    """The operator and one product."""
    import torch

    from hessian import HessianOperator

    made, batch = problem(size)
    operator = HessianOperator(made, [batch])
    vector = torch.ones(operator.size)
    return {"seconds": best_time(lambda: operator @ vector), "vectors": operator.size}


def solver(memory: str) -> Callable[[int], dict[str, Any]]:
    """Ten Lanczos steps with full or low memory."""

    def run(size: int) -> dict[str, Any]:
        from hessian import HessianOperator, lanczos

        made, batch = problem(size)
        operator = HessianOperator(made, [batch])
        start = time.perf_counter()
        lanczos(operator, tol=1e-12, max_iter=STEPS, memory=memory)  # type: ignore[arg-type]
        return {"seconds": (time.perf_counter() - start) / STEPS, "vectors": operator.size}

    return run


def density(size: int) -> dict[str, Any]:
    """Two probes of ten steps."""
    from hessian import HessianOperator, spectral_density

    made, batch = problem(size)
    operator = HessianOperator(made, [batch])
    start = time.perf_counter()
    spectral_density(operator, num_probes=2, steps=STEPS)
    return {"seconds": (time.perf_counter() - start) / (2 * STEPS), "vectors": operator.size}


def whole(measurement: Callable[..., Any] | None) -> Callable[[int], dict[str, Any]]:
    """Ten steps of Adam, as the training itself makes them; and before them a measurement of it, if any."""

    def run(size: int) -> dict[str, Any]:
        import torch

        made, batch = problem(size)
        criterion = torch.nn.MSELoss()
        optimizer = torch.optim.Adam(made.model.parameters(), 1e-3)
        start = time.perf_counter()
        if measurement is not None:
            measurement(made.model, optimizer, [batch] * STEPS, criterion)
        seconds = time.perf_counter() - start
        for _ in range(STEPS):
            optimizer.zero_grad()
            criterion(made.model(batch[0]), batch[1]).backward()
            optimizer.step()
        return {"seconds": seconds, "vectors": count(made)}

    return run


def sweep(*training: Any) -> None:
    """A range test."""
    import lrfinder

    lrfinder.range_test(*training, num_iter=30, progress=False)


def search(**options: Any) -> Callable[..., None]:
    """The whole of ``find_lr``; whether these toy data give a suggestion does not matter here."""

    def run(*training: Any) -> None:
        import lrfinder

        try:
            lrfinder.find_lr(*training, total_steps=1000, budget="quick", progress=False, **options)
        except lrfinder.NoSuggestionError as error:
            sys.stderr.write(f"{error}\n")

    return run


SUBJECTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "gradient": gradient,
    "one product": product,
    "lanczos, 10 steps": solver("full"),
    'lanczos, memory="low"': solver("low"),
    "spectral density": density,
}
TRAINING = "training with Adam"
WHOLE: dict[str, Callable[[int], dict[str, Any]]] = {
    TRAINING: whole(None),
    "range_test": whole(sweep),
    "find_lr, curvature=False": whole(search(curvature=False)),
    "find_lr": whole(search()),
}


def best_time(run: Callable[[], Any], repeats: int = 5) -> float:
    """Seconds of the fastest of several runs."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def count(made: Any) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in made.parameters.values())


def child(name: str, size: int) -> None:
    """Measure one subject in this process and print its figures."""
    found = {**SUBJECTS, **WHOLE}[name](size)
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(json.dumps(found))


def measure() -> dict[str, Any]:
    """Every subject at every size, each in a process of its own."""
    found: dict[str, Any] = {}
    for size in SIZES:
        for name in (*SUBJECTS, *WHOLE):
            command = [sys.executable, __file__, name, str(size)]
            found.setdefault(name, {})[str(size)] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def extra_vectors(found: dict[str, Any], name: str, size: int, base: str = "gradient") -> float:
    """Peak memory beyond that of ``base``, in vectors of four bytes a parameter; what a tiny model takes is code, and is taken off."""

    def grown(subject: str) -> int:
        return int(found[subject][str(size)]["peak"] - found[subject][str(SIZES[0])]["peak"])

    return (grown(name) - grown(base)) / (4 * found[name][str(size)]["vectors"])


def draw(found: dict[str, Any]) -> None:
    """Memory and time over the number of parameters."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    curvature = {name: found[name] for name in SUBJECTS}
    for index, ((name, rows), marker) in enumerate(zip(curvature.items(), "osD^v", strict=True)):
        sizes = [row["vectors"] for row in rows.values()]
        right.loglog(sizes, [row["seconds"] * 1e3 for row in rows.values()], f"C{index}{marker}-", label=name)
        if name != "gradient":
            left.semilogx(sizes[2:], [extra_vectors(found, name, size) for size in SIZES[2:]], f"C{index}{marker}-", label=name)
    left.set(xlabel="parameters", ylabel="peak beyond the gradient's, vectors", title="memory")
    right.set(xlabel="parameters", ylabel="ms per gradient or product", title="time, one thread")
    right.legend(fontsize=8, frameon=False)
    figure.savefig(FIGURE, dpi=120)


def main() -> None:
    found = measure()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    draw(found)
    for name in SUBJECTS:
        sys.stdout.write(f"{name}: {', '.join(f'{extra_vectors(found, name, size):.1f}' for size in SIZES[2:])} vectors\n")
    for name in WHOLE:
        extra = (extra_vectors(found, name, size, TRAINING) for size in SIZES[2:])
        sys.stdout.write(f"{name}: {', '.join(f'{each:.1f}' for each in extra)} vectors beyond training\n")


if __name__ == "__main__":
    child(sys.argv[1], int(sys.argv[2])) if len(sys.argv) > 1 else main()
