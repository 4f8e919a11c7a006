"""Compiled models and steps: an LR that changes from step to step compiles nothing anew, and what was compiled is used again afterwards.

Counted on ``backend="eager"``, which traces and guards like any other. What it does not show, a number that the code generator compiles
in, one test shows on inductor itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from oracles import assert_untouched, fingerprint
from torch import Tensor, nn
from torch._dynamo.utils import counters
from trainings import batches

from hessian import stable_lr
from hessian.groups import run_uncompiled
from lrfinder import LRSweep, find_lr, range_test

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*TensorFloat32.*:UserWarning")  # torch's own, on import
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.02, momentum=0.9),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
    "Adam foreach": lambda parameters: torch.optim.Adam(parameters, lr=1e-3, foreach=True),
    "RMSprop": lambda parameters: torch.optim.RMSprop(parameters, lr=1e-3),
    "tensor LR": lambda parameters: torch.optim.SGD(parameters, lr=torch.tensor(0.02), momentum=0.9),
}


@pytest.fixture(autouse=True)
def _nothing_compiled_before() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def graphs() -> int:
    """How many were compiled so far in this test."""
    return int(counters["stats"]["unique_graphs"])


class Compiled:
    """A training with a compiled model and a compiled step, three steps old; it notes before every loss how many graphs there are."""

    def __init__(self, make: Callable[[Any], torch.optim.Optimizer]) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(1)
            net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
        self.model = torch.compile(net, backend="eager")
        self.optimizer = make(net.parameters())
        self.optimizer.step = torch.compile(self.optimizer.step, backend="eager")
        self.data = batches()
        self.seen: list[int] = []
        self.train(3)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        self.seen.append(graphs())
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def train(self, steps: int) -> list[float]:
        losses = []
        for index in range(steps):
            self.optimizer.zero_grad()
            loss = self.loss(self.model, self.data[index % len(self.data)])
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return losses

    @property
    def arguments(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "data": self.data, "loss_fn": self.loss}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_range_test_compiles_nothing_after_its_second_step_and_neither_does_the_training_afterwards(make):
    training = Compiled(make)
    before, step = fingerprint(training.model, training.optimizer), training.optimizer.step
    training.seen.clear()
    curve = range_test(**training.arguments, progress=False)
    assert_untouched(before, fingerprint(training.model, training.optimizer))
    assert training.optimizer.step is step
    assert len(curve.losses) > 20
    assert len(set(training.seen[3:])) == 1  # the first loss is looked at before the sweep
    training.train(3)
    assert graphs() == training.seen[3]


def test_find_lr_compiles_nothing_for_an_lr():
    """Two graphs at most: the forward pass without gradients, in train mode and in eval mode."""
    training = Compiled(OPTIMIZERS["SGD"])
    before, present = fingerprint(training.model, training.optimizer), graphs()
    found = find_lr(**training.arguments, budget=150, total_steps=200, progress=False)
    assert_untouched(before, fingerprint(training.model, training.optimizer))
    assert found.probes is not None
    assert found.limit is not None
    assert graphs() - present <= 2


def test_curvature_of_a_compiled_model_is_that_of_its_code_and_compiles_nothing():
    training = Compiled(OPTIMIZERS["SGD"])
    present = graphs()
    found = stable_lr(**training.arguments)
    assert graphs() == present
    plain = stable_lr(training.model._orig_mod, training.optimizer, training.data, loss_fn=training.loss)
    assert (found.method, found.lr) == (plain.method, pytest.approx(plain.lr, rel=1e-6))


@pytest.mark.parametrize("along", ["hessian", "update"])
def test_the_steps_that_curvature_needs_compile_nothing(along):
    training = Compiled(OPTIMIZERS["Adam"])
    present, before = graphs(), fingerprint(training.model, training.optimizer)
    stable_lr(**training.arguments, along=along)
    assert graphs() == present
    assert_untouched(before, fingerprint(training.model, training.optimizer))


def test_a_loop_of_ones_own_compiles_nothing_either():
    training = Compiled(OPTIMIZERS["SGD"])
    before, present = fingerprint(training.model, training.optimizer), graphs()
    with LRSweep(training.model, training.optimizer, num_iter=40, progress=False) as sweep:
        for batch in sweep(training.data):
            training.optimizer.zero_grad()
            loss = training.loss(training.model, batch)
            loss.backward()
            training.optimizer.step()
            sweep.report(loss)
    assert graphs() == present
    assert_untouched(before, fingerprint(training.model, training.optimizer))


def test_the_losses_are_those_of_the_compiled_step():
    """Up to rounding: a compiled Adam counts its steps in float32."""
    training, twin = Compiled(OPTIMIZERS["Adam"]), Compiled(OPTIMIZERS["Adam"])
    curve = range_test(**training.arguments, num_iter=20, end_lr=1e-2, progress=False)
    by_hand = []
    for lr, batch in zip(curve.lrs.tolist(), training.data * 2, strict=False):
        twin.optimizer.param_groups[0]["lr"] = lr
        twin.optimizer.zero_grad()
        loss = twin.loss(twin.model, batch)
        loss.backward()
        twin.optimizer.step()
        by_hand.append(loss.item())
    assert curve.losses.tolist() == pytest.approx(by_hand, rel=1e-5)


def test_a_step_compiled_with_a_scheduler_below_it_is_seen():
    training = Compiled(OPTIMIZERS["SGD"])
    plain = torch.optim.SGD(training.model.parameters(), lr=0.02)
    torch.optim.lr_scheduler.StepLR(plain, 5)
    plain.step = torch.compile(plain.step, backend="eager")
    for parameter in training.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    present = graphs()
    run_uncompiled(plain)
    plain.step()
    assert graphs() == present
    assert plain._opt_called  # the scheduler's own note


def test_a_step_compiled_in_its_class_is_seen():
    class Own(torch.optim.SGD):
        step = torch.compile(torch.optim.SGD.step, backend="eager")

    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    optimizer = Own([weight], lr=0.25)
    run_uncompiled(optimizer)
    optimizer.step()
    assert (weight.tolist(), graphs()) == ([0.75, 0.75], 0)


def test_a_wrapper_around_a_compiled_step_is_left_alone():
    from functools import wraps

    training = Compiled(OPTIMIZERS["SGD"])
    compiled, calls = training.optimizer.step, []

    @wraps(compiled)  # takes over the mark of what it wraps
    def counted() -> None:
        calls.append(1)
        compiled()

    training.optimizer.step = counted
    run_uncompiled(training.optimizer)
    training.train(1)
    assert calls == [1]


def test_a_function_compiled_around_the_step_needs_a_tensor_for_its_lr():
    """Nobody can see from outside that it was compiled."""
    training = Compiled(OPTIMIZERS["tensor LR"])
    net, plain = training.model._orig_mod, torch.optim.SGD(training.model.parameters(), lr=torch.tensor(0.02))

    @torch.compile(backend="eager")
    def step() -> None:
        plain.step()

    def training_step(inputs: Tensor, target: Tensor) -> Tensor:
        plain.zero_grad()
        loss = nn.functional.cross_entropy(net(inputs), target)
        loss.backward()
        step()
        return loss

    before, seen = fingerprint(net, plain), []
    with LRSweep(net, plain, num_iter=40, progress=False) as sweep:
        for batch in sweep(training.data):
            sweep.report(training_step(*batch))
            seen.append(graphs())
    assert len(set(seen[2:])) == 1  # the first step has no momentum
    assert_untouched(before, fingerprint(net, plain))


@pytest.mark.skipif(shutil.which("gcc") is None and shutil.which("cc") is None, reason="inductor needs a C compiler")
def test_inductor_itself_compiles_nothing_for_an_lr():
    """Left alone, it would compile SGD's step anew for every LR: the number is in its code."""
    model = nn.Linear(6, 3, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    optimizer.step = torch.compile(optimizer.step)
    model.weight.grad = torch.zeros(3, 6)
    optimizer.step()
    present = graphs()
    for lr in (0.03, 0.02, 0.04):
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
    assert graphs() == present + 2, "numbers are no longer compiled in: run_uncompiled can go"
    range_test(model, optimizer, batches(), nn.CrossEntropyLoss(), num_iter=40, progress=False)
    optimizer.step()
    assert graphs() == present + 2
