"""What the planned training makes of the LR, and the shapes of torch's schedules."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hessian.errors import BadArgument, BadType
from lrfinder.horizon import CONSTANTS, check_schedule, horizon_factors, planned_steps, schedule_shape
from lrfinder.results import Schedule

SCHEDULES = Schedule.__args__
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


def test_the_reference_training_is_left_as_it_is():
    assert product(200, "constant", None, None) == pytest.approx(10**CONSTANTS.base)
    assert horizon_factors(200, None, None, None) == pytest.approx({"sweep to training": 10**CONSTANTS.base, "200 steps": 1.0})


@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "linear"])
def test_a_schedule_that_decays_doubles_the_peak(schedule):
    assert product(200, schedule, None, None) / product(200, "constant", None, None) == pytest.approx(2.0, rel=0.003)  # 10^.3 = 1.995


def test_steps_by_hand():
    assert product(2000, "constant", None, None) / product(200, "constant", None, None) == pytest.approx(0.5, rel=0.003)  # 10^-.3
    assert product(20, "constant", None, None) / product(200, "constant", None, None) == pytest.approx(2.0, rel=0.003)
    assert product(10**5, None, None, None) == product(10**7, None, None, None)  # held beyond the longest training of the fit


def test_passes_by_hand():
    """Data seen E times: (1 + E / 8) ^ -0.75."""
    factors = horizon_factors(240, "constant", 320, 32)
    assert factors["data seen 24 times"] == pytest.approx((1 + 24 / 8) ** -0.75)  # 240 steps of 32, over 320
    assert horizon_factors(240, "constant", 320, 128)["data seen 48 times"] == pytest.approx(7**-0.75)  # of a batch, 64 samples count
    assert horizon_factors(10**6, "constant", 10, 10)["data seen 1e+03 times"] == pytest.approx(126**-0.75)  # held at 1000 passes


@pytest.mark.parametrize(("samples", "batch"), [(None, 32), (320, None), (None, None)])
def test_unknown_data_leave_the_passes_out(samples, batch):
    assert list(horizon_factors(200, "onecycle", samples, batch)) == ["sweep to training", "1cycle peak", "200 steps"]


@given(
    steps=st.integers(1, 10**6),
    more=st.integers(1, 10**6),
    schedule=st.sampled_from([*SCHEDULES, None]),
    samples=st.none() | st.integers(1, 10**6),
    batch=st.none() | st.integers(1, 4096),
)
def test_a_longer_training_never_gets_a_larger_lr(steps, more, schedule, samples, batch):
    assert product(steps + more, schedule, samples, batch) <= product(steps, schedule, samples, batch) * (1 + 1e-12)


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
