"""``Suggestion.apply`` beside torch's schedulers: refused exactly where a scheduler would go on as if it had not been called.

The oracle is the real scheduler, stepped: made before the LR was written it must do what one made afterwards does.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from oracles import assert_untouched, optimizer_fingerprint
from torch import nn
from torch.optim import lr_scheduler as schedulers
from torch.optim.swa_utils import SWALR

from hessian.errors import BadArgument
from lrfinder.curve import LRCurve
from lrfinder.results import Suggestion

LR = 0.01
CURVE = LRCurve(
    lrs=[1e-3, 1e-2],
    losses=[1.0, 0.5],
    status="completed",
    mode="exponential",
    start_lr=1e-3,
    end_lr=1e-2,
    num_iter=2,
    stop_factor=4.0,
    smoothing=0.0,
    seed=0,
)
FOUND = Suggestion(lr=LR, interval=(0.005, 0.02), curve=CURVE, midpoint=LR, basin=(0.005, 0.02), total_steps=100, schedule=None)

Make = Callable[[Any], Any]
KEEPING: dict[str, Make] = {
    "StepLR": lambda optimizer: schedulers.StepLR(optimizer, 3),
    "MultiStepLR": lambda optimizer: schedulers.MultiStepLR(optimizer, [2, 5]),
    "ExponentialLR": lambda optimizer: schedulers.ExponentialLR(optimizer, 0.9),
    "MultiplicativeLR": lambda optimizer: schedulers.MultiplicativeLR(optimizer, lambda epoch: 0.9),
    "PolynomialLR": lambda optimizer: schedulers.PolynomialLR(optimizer, 20),
    "CosineAnnealingLR": lambda optimizer: schedulers.CosineAnnealingLR(optimizer, 20),
    "ReduceLROnPlateau": lambda optimizer: schedulers.ReduceLROnPlateau(optimizer, patience=1),
    "ChainedScheduler": lambda optimizer: schedulers.ChainedScheduler(
        [schedulers.ExponentialLR(optimizer, 0.9), schedulers.StepLR(optimizer, 3)]
    ),
}
UNDOING: dict[str, Make] = {
    "LambdaLR": lambda optimizer: schedulers.LambdaLR(optimizer, lambda epoch: 0.9**epoch),
    "ConstantLR": lambda optimizer: schedulers.ConstantLR(optimizer),
    "LinearLR": lambda optimizer: schedulers.LinearLR(optimizer, 0.1),
    "SequentialLR": lambda optimizer: schedulers.SequentialLR(
        optimizer, [schedulers.LinearLR(optimizer, 0.1, total_iters=3), schedulers.ExponentialLR(optimizer, 0.9)], [3]
    ),
    "SequentialLR of keeping ones": lambda optimizer: schedulers.SequentialLR(
        optimizer, [schedulers.StepLR(optimizer, 2), schedulers.ExponentialLR(optimizer, 0.9)], [3]
    ),
    "ChainedScheduler with a warm-up": lambda optimizer: schedulers.ChainedScheduler(
        [schedulers.LinearLR(optimizer, 0.1), schedulers.ExponentialLR(optimizer, 0.9)]
    ),
    "CosineAnnealingWarmRestarts": lambda optimizer: schedulers.CosineAnnealingWarmRestarts(optimizer, 4),
    "warm-up from zero": lambda optimizer: schedulers.LambdaLR(optimizer, lambda epoch: min(1.0, epoch / 5)),
}
# These are told their LRs when they are made, so writing them into the optimizer does not help before either.
OWN: dict[str, Make] = {
    "OneCycleLR": lambda optimizer: schedulers.OneCycleLR(optimizer, 0.1, total_steps=20, cycle_momentum=False),
    "CyclicLR": lambda optimizer: schedulers.CyclicLR(optimizer, 0.001, 0.1, step_size_up=5, cycle_momentum=False),
    "SWALR": lambda optimizer: SWALR(optimizer, swa_lr=0.05, anneal_epochs=5),
}


def new_optimizer() -> torch.optim.Optimizer:
    """Two groups, the second at a tenth."""
    parameters = [nn.Parameter(torch.ones(2)) for _ in range(2)]
    for parameter in parameters:
        parameter.grad = torch.zeros(2)
    return torch.optim.SGD([{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.01}], lr=0.1)


def lrs_of(optimizer: Any) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


def followed(optimizer: Any, scheduler: Any, steps: int = 12) -> list[list[float]]:
    """The LRs of the next steps."""
    found = []
    for _ in range(steps):
        optimizer.step()
        scheduler.step(1.0) if isinstance(scheduler, schedulers.ReduceLROnPlateau) else scheduler.step()
        found.append(lrs_of(optimizer))
    return found


def wanted(make: Make) -> list[list[float]]:
    """The LRs under a scheduler that is made after ``apply``."""
    optimizer = new_optimizer()
    FOUND.apply(optimizer)
    return followed(optimizer, make(optimizer))


def written_by_hand(optimizer: Any) -> None:
    """What ``apply`` writes."""
    for group, lr in zip(optimizer.param_groups, (LR, LR / 10), strict=True):
        group["lr"] = group["initial_lr"] = lr


@pytest.mark.parametrize("make", KEEPING.values(), ids=KEEPING)
def test_a_scheduler_that_multiplies_what_is_there_goes_on_from_the_suggestion(make):
    optimizer = new_optimizer()
    scheduler = make(optimizer)
    FOUND.apply(optimizer)
    assert lrs_of(optimizer) == pytest.approx([LR, LR / 10])
    for own, expected in zip(followed(optimizer, scheduler), wanted(make), strict=True):
        assert own == pytest.approx(expected)


@pytest.mark.parametrize("make", (UNDOING | OWN).values(), ids=UNDOING | OWN)
def test_any_other_scheduler_is_refused_before_anything_changes(make):
    optimizer = new_optimizer()
    scheduler = make(optimizer)
    before = optimizer_fingerprint(optimizer)
    with pytest.raises(BadArgument, match=r"would undo apply\(\) at its next step; call apply\(\) first and make the scheduler afterwards"):
        FOUND.apply(optimizer)
    assert_untouched(before, optimizer_fingerprint(optimizer))
    assert scheduler.optimizer is optimizer


@pytest.mark.parametrize("make", UNDOING.values(), ids=UNDOING)
def test_and_rightly_so(make):
    """Written all the same, its LRs are not what the user asked for; made afterwards, it gives them."""
    optimizer = new_optimizer()
    scheduler = make(optimizer)
    written_by_hand(optimizer)
    undone, expected = followed(optimizer, scheduler), wanted(make)
    assert any(own != pytest.approx(right) for own, right in zip(undone, expected, strict=True))
    assert max(max(expected)) <= LR * (1 + 1e-9)


@pytest.mark.parametrize("make", OWN.values(), ids=OWN)
def test_a_scheduler_with_lrs_of_its_own_goes_back_to_them(make):
    optimizer = new_optimizer()
    scheduler = make(optimizer)
    written_by_hand(optimizer)
    assert max(max(followed(optimizer, scheduler))) > 4 * LR


def test_the_advice_works():
    optimizer = new_optimizer()
    FOUND.apply(optimizer)
    scheduler = schedulers.OneCycleLR(optimizer, lrs_of(optimizer), total_steps=20, cycle_momentum=False)
    assert [max(lrs) for lrs in zip(*followed(optimizer, scheduler), strict=True)] == pytest.approx([LR, LR / 10])


def test_a_scheduler_that_is_gone_is_no_hindrance():
    optimizer = new_optimizer()
    scheduler = schedulers.LambdaLR(optimizer, lambda epoch: 0.9**epoch)
    followed(optimizer, scheduler)
    del scheduler
    gc.collect()
    FOUND.apply(optimizer)
    assert lrs_of(optimizer) == pytest.approx([LR, LR / 10])


def test_nor_is_one_of_another_optimizer():
    optimizer, other = new_optimizer(), new_optimizer()
    both = [schedulers.LambdaLR(other, lambda epoch: 1.0), schedulers.StepLR(optimizer, 3)]
    FOUND.apply(optimizer)
    assert lrs_of(optimizer) == pytest.approx([LR, LR / 10])
    assert lrs_of(other) == lrs_of(new_optimizer())
    assert len(both) == 2


def test_an_optimizer_from_a_checkpoint_takes_it():
    """It has ``initial_lr`` from the scheduler of the run before, and none now."""
    before = new_optimizer()
    followed(before, schedulers.LambdaLR(before, lambda epoch: 0.9**epoch))
    optimizer = new_optimizer()
    optimizer.load_state_dict(copy.deepcopy(before.state_dict()))
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.1, 0.01]
    FOUND.apply(optimizer)
    assert lrs_of(optimizer) == pytest.approx([LR, LR / 10])
    scheduler = schedulers.LambdaLR(optimizer, lambda epoch: 0.5)
    assert followed(optimizer, scheduler, 1)[0] == pytest.approx([LR / 2, LR / 20])


def test_a_compiled_step_does_not_hide_the_scheduler():
    optimizer = new_optimizer()
    scheduler = schedulers.LambdaLR(optimizer, lambda epoch: 1.0)
    optimizer.step = torch.compile(optimizer.step, backend="eager")
    with pytest.raises(BadArgument, match="LambdaLR is attached"):
        FOUND.apply(optimizer)
    assert scheduler.optimizer is optimizer
