"""What the planned training makes of the LR, and the shapes of torch's schedules."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hessian.errors import BadArgument, BadType
from lrfinder.constants import CONSTANTS
from lrfinder.horizon import check_schedule, horizon_factors, planned_steps, schedule_shape
from lrfinder.results import Schedule

SCHEDULES = Schedule.__args__
REFERENCE = CONSTANTS.reference_steps
LENGTHS = [1, 2, 3, 4, 5, 10, 42, 230, 1001]


def torch_lrs(make, steps: int) -> list[float]:
    """The LRs that a torch scheduler gives an optimizer of LR 1, step for step."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    lrs = []
    for step in range(steps):
        lrs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < steps - 1:
            scheduler.step()
    return lrs


@pytest.mark.parametrize("steps", LENGTHS)
@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        ("onecycle", lambda steps: lambda opt: torch.optim.lr_scheduler.OneCycleLR(opt, 1.0, total_steps=steps, cycle_momentum=False)),
        ("linear", lambda steps: lambda opt: torch.optim.lr_scheduler.LinearLR(opt, 1.0, 0.0, total_iters=steps)),
        ("linear", lambda steps: lambda opt: torch.optim.lr_scheduler.LambdaLR(opt, lambda step: 1 - step / steps)),
        ("cosine", lambda steps: lambda opt: torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=steps)),
        ("constant", lambda steps: lambda opt: torch.optim.lr_scheduler.ConstantLR(opt, 1.0)),
    ],
    ids=["onecycle", "linear", "lambda", "cosine", "constant"],
)
def test_shapes_are_those_of_torch_step_for_step(schedule, make, steps):
    ours = [schedule_shape(schedule, step, steps) for step in range(steps)]
    assert ours == pytest.approx(torch_lrs(make(steps), steps), abs=1e-11)  # torch multiplies its way along: an ulp a step


def test_an_unknown_schedule_is_a_constant_lr():
    assert [schedule_shape(None, step, 10) for step in range(10)] == [1.0] * 10


@given(steps=st.integers(1, 10_000), share=st.floats(0, 1), schedule=st.sampled_from([*SCHEDULES, None]))
def test_no_shape_exceeds_the_peak(steps, share, schedule):
    step = min(int(share * steps), steps - 1)
    assert 0 < schedule_shape(schedule, step, steps) <= 1


def product(*arguments) -> float:
    return math.prod(horizon_factors(*arguments).values())


@pytest.mark.parametrize(
    ("trained", "fitted"),
    [
        (None, CONSTANTS.from_sweep),
        (CONSTANTS.usual_training, CONSTANTS.from_trainings),
        (10 * CONSTANTS.usual_training, CONSTANTS.from_trainings + CONSTANTS.from_longer),
    ],
)
def test_a_training_like_the_reference_only_gets_the_step_from_what_was_measured(trained, fitted):
    """The reference of short trainings is their own length."""
    found = horizon_factors(trained or REFERENCE, None, None, None, trained)
    assert list(found.values()) == pytest.approx([10**fitted, 1.0])
    assert horizon_factors(trained or REFERENCE, "constant", None, None, trained) == found


def test_short_trainings_change_the_reference_and_nothing_else():
    swept, trained = (horizon_factors(1000, "cosine", 320, 32, length) for length in (None, 50))
    assert len(swept) == len(trained) == 4
    same = swept.keys() & trained.keys()
    assert same == {"cosine peak", "data seen 100 times"}
    assert {name: swept[name] for name in same} == {name: trained[name] for name in same}
    assert list(trained.values())[2] == pytest.approx((1000 / 50) ** -CONSTANTS.steps)


@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "linear"])
def test_a_schedule_that_decays_gets_a_larger_peak(schedule):
    ratio = product(200, schedule, None, None) / product(200, "constant", None, None)
    assert ratio == pytest.approx(10**CONSTANTS.decaying)
    assert ratio > 1


def test_steps_by_hand():
    ten_times = 10**-CONSTANTS.steps
    assert product(10 * REFERENCE, "constant", None, None) / product(REFERENCE, "constant", None, None) == pytest.approx(ten_times)
    assert product(REFERENCE // 10, "constant", None, None) / product(REFERENCE, "constant", None, None) == pytest.approx(1 / ten_times)
    longest = CONSTANTS.largest_steps
    assert product(longest, None, None, None) == product(100 * longest, None, None, None)  # held beyond the longest training of the fit
    assert product(longest // 2, None, None, None) > product(longest, None, None, None)


def test_passes_by_hand():
    """Data seen E times: (1 + E / passes) ^ -epochs."""

    def by_hand(passes: float) -> float:
        return (1 + passes / CONSTANTS.passes) ** -CONSTANTS.epochs

    assert horizon_factors(240, "constant", 320, 32)["data seen 24 times"] == pytest.approx(by_hand(24))  # 240 steps of 32, over 320
    cap = CONSTANTS.batch_cap
    assert horizon_factors(50, "constant", 10 * cap, 4 * cap)["data seen 5 times"] == pytest.approx(by_hand(5))  # more do not count
    most = CONSTANTS.largest_passes
    held = horizon_factors(10**7, "constant", 10, 10)
    assert held[f"data seen {most:.3g} times"] == pytest.approx(by_hand(most))


@pytest.mark.parametrize(("samples", "batch"), [(None, 32), (320, None), (None, None)])
def test_unknown_data_leave_the_passes_out(samples, batch):
    assert horizon_factors(200, "onecycle", samples, batch) == horizon_factors(200, "onecycle", None, None)
    assert not any("seen" in name for name in horizon_factors(200, "onecycle", samples, batch))


@given(
    steps=st.integers(1, 10**6),
    more=st.integers(1, 10**6),
    schedule=st.sampled_from([*SCHEDULES, None]),
    samples=st.none() | st.integers(1, 10**6),
    batch=st.none() | st.integers(1, 4096),
    trained=st.none() | st.integers(1, 10**6),
)
def test_a_longer_training_never_gets_a_larger_lr(steps, more, schedule, samples, batch, trained):
    longer, shorter = (product(length, schedule, samples, batch, trained) for length in (steps + more, steps))
    assert longer <= shorter * (1 + 1e-12)


def test_planned_steps():
    assert planned_steps(37, 1000, 10) == 37
    assert planned_steps(None, 100, 30) == 40  # ten epochs of 4 batches, the last of them partial
    assert planned_steps(None, None, 30) == 1000
    assert planned_steps(None, 100, None) == 1000


def test_what_cannot_be_a_length_or_a_schedule():
    with pytest.raises(BadArgument, match=r"total_steps=0 is too small; pass at least 1"):
        planned_steps(0, None, None)
    with pytest.raises(BadType, match=r"total_steps=1\.5 is not a whole number"):
        planned_steps(1.5, None, None)
    with pytest.raises(BadArgument, match=r"schedule='step' is unknown; choose 'constant', 'onecycle', 'cosine', 'linear', or None"):
        check_schedule("step")
    for schedule in [*SCHEDULES, None]:
        check_schedule(schedule)
