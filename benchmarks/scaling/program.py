"""Under ``torchrun``: seconds and bytes of a training step, a sweep step, products and Lanczos steps, over DDP and FSDP2."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from hessian import FiniteDifferenceOperator, HessianOperator, Problem
from hessian.operators.unsharded import UnshardedHessianOperator
from hessian.solvers.krylov import Krylov
from lrfinder import range_test
from scaling import volume
from scaling.sockets import bytes_sent

SIZES = (10**5, 10**6, 4 * 10**6)
BATCH = 64  # samples of every rank
STEPS = 12  # of a sweep, and of the bare loop
SETTLED = 4  # of them that do not count: DDP looks at its buckets after the first
LANCZOS = 6
ROUNDS = 3

Marks = list[float]


def layers(size: int) -> nn.Sequential:
    """Two of equal size."""
    torch.manual_seed(0)
    width = 4 * round((size / 2) ** 0.5 / 4)
    return nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))


def data_parallel(size: int) -> nn.Module:
    return DistributedDataParallel(layers(size))


def sharded(size: int) -> nn.Module:
    model = layers(size)
    for part in (model[0], model[2], model):
        fully_shard(part)
    return model


WRAPPERS: dict[str, Callable[[int], nn.Module]] = {"DDP": data_parallel, "FSDP2": sharded}


def measure(kind: str, size: int) -> dict[str, Any]:
    """Every subject for one wrapper and one size, checked against the formulas."""
    model, shapes = WRAPPERS[kind](size), [list(part.shape) for part in layers(size).parameters()]
    generator = torch.Generator().manual_seed(dist.get_rank())
    batch = tuple(torch.randn(BATCH, shapes[0][0], generator=generator) for _ in range(2))
    found = {"step": bare(model, batch), "sweep step": sweep(model, batch)}
    for name, operator in operators(kind, model, batch).items():
        vector = operator.space.random_unit(operator.like, 0)
        product = partial(operator.__matmul__, vector)
        found[name] = {"seconds": timed(product), "sent": sent(product)}
        if name == "exact product":
            found["Lanczos step"] = lanczos(operator, vector)
    expected = formulas(kind, shapes)
    for name, figures in found.items():
        check(f"{kind}, {size} parameters, {name}", figures["sent"], expected[name])
        figures.update(asdict(expected[name]))
    return {"parameters": volume.numbers(shapes), "subjects": found}


def operators(kind: str, model: nn.Module, batch: Any) -> dict[str, Any]:
    problem = Problem(model, None, [batch], nn.MSELoss())
    exact = HessianOperator if kind == "DDP" else UnshardedHessianOperator
    return {"exact product": exact(problem, [batch]), "differences": FiniteDifferenceOperator(problem, [batch])}


def formulas(kind: str, shapes: volume.Shapes) -> dict[str, volume.Volume]:
    ring = volume.Ring(dist.get_world_size())
    if ring.ranks == 1:
        return dict.fromkeys(("step", "sweep step", "exact product", "differences", "Lanczos step"), volume.Volume())
    return volume.ddp(ring, shapes) if kind == "DDP" else volume.fsdp(ring, [shapes[:2], shapes[2:]], LANCZOS)


def check(name: str, found: float, expected: volume.Volume) -> None:
    """Refuse to go on with formulas that are not what was sent."""
    if not expected.is_what(found):
        raise SystemExit(f"{name}: sent {found:.0f} bytes, but the formula says {expected.on_gloo:.0f}.")


def bare(model: nn.Module, batch: Any) -> dict[str, float]:
    """The loop of a user."""

    def run(mark: Callable[[], None]) -> None:
        optimizer = torch.optim.SGD(model.parameters(), 1e-6)
        for _ in range(STEPS):
            mark()
            optimizer.zero_grad()
            nn.functional.mse_loss(model(batch[0]), batch[1]).backward()
            optimizer.step()
        mark()

    return per_step(run)


def sweep(model: nn.Module, batch: Any) -> dict[str, float]:
    """The same inside of a range test."""

    def run(mark: Callable[[], None]) -> None:
        def loss_fn(model: nn.Module, batch: Any) -> Tensor:
            mark()
            return nn.functional.mse_loss(model(batch[0]), batch[1])

        optimizer = torch.optim.SGD(model.parameters(), 1e-6)
        range_test(model, optimizer, [batch], loss_fn=loss_fn, start_lr=1e-8, end_lr=1e-6, num_iter=STEPS, progress=False)

    return per_step(run)


def per_step(run: Callable[[Callable[[], None]], None]) -> dict[str, float]:
    """Median time between two calls of ``mark``, and the mean of the bytes sent."""
    clock: list[Marks] = []
    for _ in range(ROUNDS):
        clock.append([])
        run(lambda: clock[-1].append(time.perf_counter()))
    counts: Marks = []
    run(lambda: counts.append(bytes_sent()))
    first, last = counts[SETTLED], counts[-1]
    return {"seconds": median(map(median, map(gaps, clock))), "sent": (last - first) / (len(counts) - 1 - SETTLED)}


def gaps(marks: Marks) -> list[float]:
    """Between marks, from when the first have settled."""
    return [after - before for before, after in zip(marks[SETTLED:], marks[SETTLED + 1 :], strict=False)]


def lanczos(operator: Any, start: Tensor) -> dict[str, float]:
    """The mean of some steps, product included."""

    def run() -> None:
        krylov = Krylov(operator, start.clone())
        for _ in range(LANCZOS):
            krylov.extend()

    return {"seconds": timed(run) / LANCZOS, "sent": sent(run) / LANCZOS}


def timed(run: Callable[[], Any]) -> float:
    """Median over rounds, every one begun together."""
    run()
    return median(seconds(run) for _ in range(ROUNDS))


def seconds(run: Callable[[], Any]) -> float:
    dist.barrier()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def sent(run: Callable[[], Any]) -> float:
    """Bytes that this rank sends."""
    before = bytes_sent()
    run()
    return bytes_sent() - before


def every(sizes: Sequence[int]) -> Iterator[dict[str, Any]]:
    for kind in WRAPPERS:
        for size in sizes:
            yield {"kind": kind, "ranks": dist.get_world_size(), **measure(kind, size)}


def main(path: str, *sizes: str) -> None:
    """All figures of this number of ranks, written by the first."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    found = list(every([*map(int, sizes)] or SIZES))
    if dist.get_rank() == 0:
        Path(path).write_text(json.dumps(found))
    dist.destroy_process_group()
