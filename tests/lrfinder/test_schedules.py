"""CLR, SGDR and 1cycle: torch's own schedulers, held to the papers' formulas at every step, for every optimizer."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from limit_cases import LIMIT_CASES
from oracles import assert_untouched, fingerprint
from test_combine import bowl, make_limit
from torch import nn
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    LambdaLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)
from versions import muon, with_muon

import lrfinder
from hessian.errors import BadArgument, BadType
from lrfinder.plotting_schedule import follow

RATIO = 0.1  # LR of the second group over the first


# The papers' formulas, as functions of the step ---------------------------------------------------------------------------------------


def smith(step: int, base: float, top: float, size: int, scale: Callable[[int, int], float]) -> float:
    """Smith 2017: ``cycle = floor(1 + t / 2S)``, ``x = |t / S - 2 cycle + 1|``, ``lr = base + (max - base) max(0, 1 - x) scale``."""
    cycle = math.floor(1 + step / (2 * size))
    x = abs(step / size - 2 * cycle + 1)
    return base + (top - base) * max(0.0, 1 - x) * scale(cycle, step)


def loshchilov(step: int, top: float, first: int, factor: int) -> float:
    """SGDR, equation 5, with ``eta_min = 0``."""
    length = first
    while step >= length:
        step, length = step - length, length * factor
    return top * (1 + math.cos(math.pi * step / length)) / 2


def smith_topin(step: int, places: list[float], values: list[float]) -> float:
    """1cycle: straight lines between the corners."""
    return float(np.interp(step, places, values))


def warmed(step: int, start: float, peak: float, steps: int) -> float:
    """A straight line that reaches ``peak`` at ``steps``."""
    return start + (peak - start) * step / steps


# Every optimizer ----------------------------------------------------------------------------------------------------------------------


def groups_of(optimizer: Callable[..., Any], lr: Any = 1e-3) -> Any:
    """An optimizer of two groups, the second at a tenth of the LR, in the middle of its life: ``initial_lr`` is there."""
    made = optimizer([nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(3, 2))], lr=lr)
    (group,) = made.param_groups
    first, second = group["params"]
    group["params"] = [first]
    made.add_param_group(
        {**{key: value for key, value in group.items() if key not in ("lr", "params")}, "params": [second], "lr": lr * RATIO}
    )
    for each in made.param_groups:
        each["initial_lr"] = float(each["lr"])
        each["lr"] = each["lr"] / 7  # as a scheduler has left it
    if hasattr(made, "train"):
        made.train()
    return made


def tensor_adam(parameters: Any, lr: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=torch.tensor(float(lr), dtype=torch.float64))


FAMILIES: dict[str, Callable[..., Any]] = {case.cls.__name__: case for case in reversed(LIMIT_CASES.values())}
FAMILIES |= {
    **with_muon({"Muon": muon}),
    "Adam, tensor lr": tensor_adam,
    "SGD with momentum": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9),
    "RMSprop with momentum": lambda parameters, lr: torch.optim.RMSprop(parameters, lr=lr, momentum=0.9),
}
every_optimizer = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def momentum_of(group: dict[str, Any]) -> float:
    return float(group["betas"][0]) if "betas" in group else float(group.get("momentum", 0.0))


def driven(scheduler: Any, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """LR and momentum of every group at each step, as a training sees them: ``optimizer.step()``, then ``scheduler.step()``."""
    optimizer, lrs, momenta = scheduler.optimizer, [], []
    for step in range(steps):
        lrs.append([float(group["lr"]) for group in optimizer.param_groups])
        momenta.append([momentum_of(group) for group in optimizer.param_groups])
        optimizer.step()
        if step < steps - 1:
            scheduler.step()
    return np.array(lrs), np.array(momenta)


def assert_follows(lrs: np.ndarray, wanted: list[float], ratio: float = RATIO) -> None:
    assert lrs[:, 0] == pytest.approx(wanted, rel=1e-6, abs=1e-12)
    assert lrs[:, 1:] == pytest.approx(lrs[:, :1] * ratio, rel=1e-6, abs=1e-12)


@every_optimizer
def test_clr_is_smiths_triangle_and_keeps_ratio_and_momentum(family):
    optimizer = groups_of(family)
    before = [momentum_of(group) for group in optimizer.param_groups]
    scheduler = lrfinder.clr(optimizer, 0.4, 48)
    lrs, momenta = driven(scheduler, 48)
    assert type(scheduler) is CyclicLR
    assert_follows(lrs, [smith(step, 0.1, 0.4, 8, lambda cycle, step: 1.0) for step in range(48)])
    assert (momenta == before).all()


@every_optimizer
def test_sgdr_is_equation_five_and_ends_with_its_last_cycle(family):
    scheduler = lrfinder.sgdr(groups_of(family), 0.4, 70)
    lrs, _ = driven(scheduler, 71)
    assert type(scheduler) is CosineAnnealingWarmRestarts
    assert_follows(lrs, [loshchilov(step, 0.4, 10, 2) for step in range(71)])
    assert lrs[70, 0] == pytest.approx(0.4)  # had it gone on
    assert lrs[69, 0] < 0.001


@every_optimizer
def test_1cycle_in_three_straight_phases_moves_momentum_against_the_lr_where_there_is_one(family):
    optimizer = groups_of(family)
    before = [momentum_of(group) for group in optimizer.param_groups]
    scheduler = lrfinder.one_cycle(optimizer, 0.4, 100, start_lr=0.05, three_phase=True, anneal="linear", final_div=50)
    lrs, momenta = driven(scheduler, 100)
    corners = [0.0, 44.0, 88.0, 99.0]
    assert type(scheduler) is OneCycleLR
    assert_follows(lrs, [smith_topin(step, corners, [0.05, 0.4, 0.05, 0.001]) for step in range(100)])
    wanted = [smith_topin(step, corners, [0.95, 0.85, 0.95, 0.95]) for step in range(100)]
    for column, own in zip(momenta.T, before, strict=True):
        moves = own > 0 and "ScheduleFree" not in type(optimizer).__name__
        assert column == pytest.approx(wanted if moves else [own] * 100)


@every_optimizer
def test_a_warm_up_comes_first_in_a_straight_line(family):
    for make, peak in ((lrfinder.clr, 0.1), (lrfinder.sgdr, 0.4)):
        scheduler = make(groups_of(family), 0.4, 75, warmup_steps=5, warmup_lr=0.02)
        lrs, _ = driven(scheduler, 75)
        assert type(scheduler) is SequentialLR
        assert lrs[:6, 0] == pytest.approx([warmed(step, 0.02, peak, 5) for step in range(6)])
        behind = [smith(step, 0.1, 0.4, 11, lambda *_: 1.0) if make is lrfinder.clr else loshchilov(step, 0.4, 10, 2) for step in range(70)]
        assert_follows(lrs[5:], behind)


@every_optimizer
def test_linear_decay_is_a_straight_line_to_zero_and_a_constant_lr_stays(family):
    for warm in (0, 5):
        optimizer = groups_of(family)
        lrs, _ = driven(lrfinder.linear(optimizer, 0.4, 75, warmup_steps=warm, warmup_lr=0.02), 76)
        rise = [warmed(step, 0.02, 0.4, 5) for step in range(warm)]
        assert_follows(lrs, [*rise, *(0.4 * (1 - step / (75 - warm)) for step in range(76 - warm))])
        lrs, _ = driven(lrfinder.constant(groups_of(family), 0.4, 75, warmup_steps=warm, warmup_lr=0.02), 76)
        assert_follows(lrs, [*rise, *[0.4] * (76 - warm)])


@every_optimizer
def test_training_on_gives_finite_weights(family):
    """Momentum and LR change between real steps, with gradients."""
    for make in (lrfinder.clr, lrfinder.sgdr, lrfinder.one_cycle, lrfinder.linear, lrfinder.constant):
        optimizer = groups_of(family)
        scheduler = make(optimizer, 1e-3, 20)
        for _ in range(19):
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = parameter.detach().clone()
            optimizer.step()
            scheduler.step()
        assert all(torch.isfinite(parameter).all() for group in optimizer.param_groups for parameter in group["params"])


# Any numbers --------------------------------------------------------------------------------------------------------------------------


def sgd(ratio: float = RATIO, **settings: Any) -> torch.optim.SGD:
    parameters = [nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))]
    return torch.optim.SGD([{"params": parameters[:1], "lr": 1.0}, {"params": parameters[1:], "lr": ratio}], **settings)


def around(corners: list[int], steps: int) -> list[int]:
    """The steps beside every corner, within the training."""
    return sorted({step for corner in corners for step in (corner - 1, corner, corner + 1) if 0 <= step < steps})


SCALES: dict[str, Callable[[float], Callable[[int, int], float]]] = {
    "triangular": lambda gamma: lambda cycle, step: 1.0,
    "triangular2": lambda gamma: lambda cycle, step: 0.5 ** (cycle - 1),
    "exp_range": lambda gamma: lambda cycle, step: gamma**step,
}


@given(
    size=st.integers(1, 40),
    base=st.floats(1e-6, 1.0),
    height=st.floats(1.0, 100.0),
    mode=st.sampled_from(sorted(SCALES)),
    gamma=st.floats(0.9, 1.0),
    ratio=st.floats(0.0, 1.0),
)
def test_clr_meets_the_formula_at_every_corner(size, base, height, mode, gamma, ratio):
    steps = 6 * size + 2
    scheduler = lrfinder.clr(sgd(ratio), base * height, steps, base_lr=base, step_size=size, mode=mode, gamma=gamma)
    lrs, _ = driven(scheduler, steps)
    near = around([corner * size for corner in range(7)], steps)
    assert_follows(lrs[near], [smith(step, base, base * height, size, SCALES[mode](gamma)) for step in near], ratio)


@given(first=st.integers(1, 20), factor=st.integers(1, 3), ratio=st.floats(0.0, 1.0), top=st.floats(1e-6, 100.0))
def test_sgdr_meets_the_formula_at_every_restart(first, factor, ratio, top):
    ends = [first * sum(factor**index for index in range(count)) for count in range(4)]  # T_0 (T_mult^k - 1) / (T_mult - 1)
    steps = ends[-1] + 2
    lrs, _ = driven(lrfinder.sgdr(sgd(ratio), top, steps, T_0=first, T_mult=factor), steps)
    near = around(ends, steps)
    assert_follows(lrs[near], [loshchilov(step, top, first, factor) for step in near], ratio)
    assert lrs[ends, 0] == pytest.approx([top] * 4)


@given(total=st.integers(1, 400), factor=st.integers(1, 4), cycles=st.integers(1, 5))
def test_sgdr_by_default_ends_its_last_cycle_with_the_training(total, factor, cycles):
    lrs, _ = driven(lrfinder.sgdr(sgd(), 1.0, total, T_mult=factor, cycles=cycles), total + 1)
    assert lrs[-1, 0] == pytest.approx(1.0)  # the restart just behind it
    peaks = np.flatnonzero(lrs[:, 0] > 1 - 1e-9)
    lengths = np.diff(peaks)
    assert len(lengths) <= cycles
    assert (lengths[1:] == factor * lengths[:-1]).all()
    assert peaks[0] < sum(factor**index for index in range(len(lengths)))  # the warm-up takes no more than what does not divide
    assert (np.diff(lrs[: peaks[0] + 1, 0]) > 0).all()


@given(
    total=st.integers(10, 300),
    share=st.floats(0.15, 0.5),
    three=st.booleans(),
    cosine=st.booleans(),
    start=st.floats(1e-4, 1.0),
    ratio=st.floats(0.0, 1.0),
)
def test_1cycle_meets_its_corners_and_its_lines(total, share, three, cosine, start, ratio):
    scheduler = lrfinder.one_cycle(
        sgd(ratio, momentum=0.5),
        2.0,
        total,
        start_lr=2 * start,
        pct_start=share,
        three_phase=three,
        anneal="cos" if cosine else "linear",
        momentum=(0.8, 0.9),
    )
    lrs, momenta = driven(scheduler, total)
    corners = [0.0, share * total - 1, *([2 * share * total - 2] if three else []), total - 1]
    values = [2 * start, 2.0, *([2 * start] if three else []), 2 * start / 1e4]
    heavy = [0.9, 0.8, *([0.9] if three else []), 0.9]

    def line(step: int, ends: list[float]) -> float:
        leg = max(np.searchsorted(corners, step) - 1, 0)
        along = (step - corners[leg]) / (corners[leg + 1] - corners[leg])
        along = (1 - math.cos(math.pi * along)) / 2 if cosine else along
        return ends[leg] + (ends[leg + 1] - ends[leg]) * along

    assert_follows(lrs, [line(step, values) for step in range(total)], ratio)
    assert momenta == pytest.approx(np.array([[line(step, heavy)] * 2 for step in range(total)]))


def test_the_exponential_range_decays_by_default_as_far_as_in_the_paper():
    lrs, _ = driven(lrfinder.clr(sgd(), 1.0, 600, base_lr=0.1, step_size=300, mode="exp_range"), 600)
    assert (lrs[300, 0] - 0.1) / 0.9 == pytest.approx(0.99994**35_000)


def test_half_a_cycle_lasts_two_to_ten_epochs_and_three_cycles_fill_the_training():
    def size(total: int, epoch: int | None) -> float:
        return lrfinder.clr(sgd(), 1.0, total, epoch_steps=epoch).total_size / 2

    assert size(600, None) == 100  # three cycles
    assert size(600, 20) == 100  # five epochs
    assert size(600, 80) == 300  # not under two epochs: one cycle
    assert size(600, 5) == 50  # not over ten epochs: six cycles
    assert size(3, None) == 1


def test_what_cannot_move_is_left_alone():
    plain = driven(lrfinder.one_cycle(sgd(), 1.0, 20), 20)[1]
    assert (plain == 0).all()  # SGD without momentum is not given one
    still = driven(lrfinder.one_cycle(sgd(momentum=0.9), 1.0, 20, momentum=None), 20)[1]
    assert (still == 0.9).all()
    mixed = sgd(momentum=0.9)
    mixed.param_groups[1]["momentum"] = 0.0
    moved = driven(lrfinder.one_cycle(mixed, 1.0, 20), 20)[1]
    assert np.ptp(moved[:, 0]) > 0.09
    assert (moved[:, 1] == 0).all()


def test_a_second_schedule_starts_from_the_same_ratio():
    optimizer = sgd(momentum=0.9)
    for make in (lrfinder.one_cycle, lrfinder.sgdr, lrfinder.clr, lrfinder.one_cycle):
        lrs, _ = driven(make(optimizer, 0.5, 21), 21)
        assert lrs[:, 1] == pytest.approx(lrs[:, 0] * RATIO)


def test_a_schedule_goes_on_from_its_state():
    for make in (lrfinder.clr, lrfinder.sgdr, lrfinder.one_cycle):
        whole, _ = driven(make(sgd(momentum=0.9), 1.0, 40), 40)
        scheduler = make(sgd(momentum=0.9), 1.0, 40)
        driven(scheduler, 20)
        saved = copy.deepcopy((scheduler.state_dict(), scheduler.optimizer.state_dict()))
        again = make(sgd(momentum=0.9), 1.0, 40)
        again.load_state_dict(saved[0])
        again.optimizer.load_state_dict(saved[1])
        rest, _ = driven(again, 21)
        assert rest == pytest.approx(whole[19:])


# From a suggestion --------------------------------------------------------------------------------------------------------------------


def found(limit: float | None = 1e6, total: int = 700, **changes: Any) -> lrfinder.Suggestion:
    suggestion = lrfinder.suggest_lr(bowl(), make_limit(0.5), total_steps=total)
    measured = None if limit is None else replace(suggestion.limit, curvature_lr=limit * suggestion.lr)
    return replace(suggestion, limit=measured, **changes)


def test_a_suggestion_gives_its_peak_and_its_length():
    suggestion = found()
    one, _ = driven(suggestion.one_cycle(sgd(momentum=0.9)), 700)
    warm, _ = driven(suggestion.sgdr(sgd()), 700)
    cyclic, _ = driven(suggestion.clr(sgd()), 700)
    assert [lrs[:, 0].max() for lrs in (one, warm, cyclic)] == pytest.approx([suggestion.lr] * 3)
    assert one[0, 0] == pytest.approx(suggestion.lr / 25)
    assert warm[0, 0] == pytest.approx(suggestion.lr)
    assert cyclic[0, 0] == pytest.approx(suggestion.lr / 4)
    assert one[-1, 0] == pytest.approx(suggestion.lr / 25 / 1e4)


def test_above_the_limit_of_step_0_the_schedules_start_at_it():
    """1cycle starts lower; SGDR and CLR get the warm-up of ``found.warmup``: a tenth of the steps, less what is stable anyway."""
    suggestion = found(limit=0.02)
    limit = 0.02 * suggestion.lr
    assert driven(suggestion.one_cycle(sgd()), 1)[0][0, 0] == pytest.approx(limit)
    lrs, _ = driven(suggestion.sgdr(sgd(), cycles=1), 701)
    assert lrs[0, 0] == pytest.approx(limit)
    assert int(lrs[:, 0].argmax()) == replace(suggestion, schedule="cosine").warmup.steps == math.ceil(70 * 0.98)
    assert lrs[700, 0] == pytest.approx(suggestion.lr)  # the cosine ends with the training
    cyclic, _ = driven(suggestion.clr(sgd()), 700)
    assert cyclic[0, 0] == pytest.approx(limit)
    assert cyclic[math.ceil(70 * (1 - 4 * 0.02)), 0] == pytest.approx(suggestion.lr / 4)


def test_without_a_limit_there_is_no_warm_up():
    assert type(found(limit=None).sgdr(sgd())) is CosineAnnealingWarmRestarts
    assert type(found(limit=None).clr(sgd())) is CyclicLR
    assert driven(found(limit=None).one_cycle(sgd()), 1)[0][0, 0] == pytest.approx(found().lr / 25)


def test_what_the_caller_sets_counts():
    suggestion = found(limit=0.02)
    scheduler = suggestion.clr(sgd(), 100, base_lr=0.01, max_lr=0.2, step_size=7, mode="triangular2", warmup_steps=0)
    lrs, _ = driven(scheduler, 100)
    assert_follows(lrs, [smith(step, 0.01, 0.2, 7, SCALES["triangular2"](1.0)) for step in range(100)])
    with pytest.raises(TypeError, match="height"):
        suggestion.sgdr(sgd(), height=1.0)


@pytest.mark.parametrize("samples", [64, None])
def test_an_epoch_is_what_the_sweep_saw(samples):
    suggestion = found()
    known = replace(suggestion, curve=replace(suggestion.curve, samples=samples, batch_size=8))
    assert known.clr(sgd()).total_size / 2 == (70 if samples else 116)  # at most 10 epochs of 8 steps; or three cycles


@pytest.mark.parametrize(
    ("schedule", "line"),
    [
        ("onecycle", "scheduler = found.one_cycle(optimizer)"),
        ("cosine", "scheduler = found.sgdr(optimizer, cycles=1)"),
        ("linear", "scheduler = found.linear(optimizer)"),
        ("constant", "found.apply(optimizer)"),
        (None, "found.apply(optimizer)"),
    ],
)
def test_the_line_to_paste_is_printed_and_works(schedule, line):
    suggestion = found(schedule=schedule)
    assert f"  schedule    {line}\n" in str(suggestion)
    space = {"found": suggestion, "optimizer": sgd()}
    exec(line, space)
    assert max(float(group["lr"]) for group in space["optimizer"].param_groups) <= suggestion.lr * (1 + 1e-9)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant", None])
def test_the_line_to_paste_has_the_warm_up_that_is_printed(schedule):
    suggestion = found(limit=0.02, schedule=schedule)
    (line,) = [line.removeprefix("  schedule    ") for line in str(suggestion).splitlines() if line.startswith("  schedule ")]
    space = {"found": suggestion, "optimizer": sgd()}
    exec(line, space)
    lrs, _ = driven(space["scheduler"], 700)
    assert lrs[0, 0] == pytest.approx(0.02 * suggestion.lr)
    assert int(lrs[:, 0].argmax()) == suggestion.warmup.steps
    assert lrs[:, 0].max() == pytest.approx(suggestion.lr)


def test_the_printed_cosine_is_the_planned_one():
    suggestion = found(schedule="cosine")
    reference = CosineAnnealingLR(sgd(), T_max=700)
    wanted, _ = driven(reference, 700)
    lrs, _ = driven(suggestion.sgdr(sgd(), cycles=1), 700)
    assert lrs == pytest.approx(wanted * suggestion.lr)


# The picture --------------------------------------------------------------------------------------------------------------------------


def lines_of(figure: Any) -> dict[str, Any]:
    return {line.get_label(): line for ax in figure.axes for line in ax.get_lines()}


@pytest.mark.parametrize("make", [lrfinder.clr, lrfinder.sgdr, lrfinder.one_cycle])
def test_the_picture_shows_what_the_training_will_see_and_touches_nothing(make):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.Adam([{"params": [model.weight]}, {"params": [model.bias], "lr": torch.tensor(0.002)}], lr=torch.tensor(0.01))
    scheduler = make(optimizer, 0.5, 31)
    driven(scheduler, 4)
    before, state = fingerprint(model, optimizer), repr(scheduler.state_dict())
    figure = lrfinder.plot_schedule(scheduler, steps=20)
    assert_untouched(before, fingerprint(model, optimizer))
    assert repr(scheduler.state_dict()) == state
    (line,) = [line for label, line in lines_of(figure).items() if "peak" in label]
    lrs, _ = driven(scheduler, 20)
    assert line.get_xdata().tolist() == list(range(3, 23))
    assert line.get_ydata() == pytest.approx(lrs[:, 0])
    assert lines_of(figure)["other param groups"].get_ydata() == pytest.approx(lrs[:, 1])


def test_momentum_is_drawn_where_it_moves():
    figure = lrfinder.plot_schedule(lrfinder.one_cycle(sgd(momentum=0.9), 1.0, 50), steps=50)
    (right,) = figure.axes[1].get_lines()
    assert right.get_ydata().min() == pytest.approx(0.85, abs=1e-3)
    assert len(lrfinder.plot_schedule(lrfinder.sgdr(sgd(momentum=0.9), 1.0, 50), steps=50).axes) == 1


def test_functions_that_make_schedules_are_drawn_beside_one_another(tmp_path):
    suggestion = found()
    path = tmp_path / "schedules.png"
    figure = lrfinder.plot_schedule(suggestion.clr, suggestion.sgdr, suggestion.one_cycle, steps=700, path=path)
    peaks = [line.get_ydata().max() for label, line in lines_of(figure).items() if "peak" in label]
    assert peaks == pytest.approx([suggestion.lr] * 3)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_1cycle_is_drawn_to_its_end_and_other_schedules_of_torch_too():
    assert len(follow(lrfinder.one_cycle(sgd(), 1.0, 12), 100).lrs) == 12
    path = follow(LambdaLR(sgd(), [lambda step: 1 / (1 + step), lambda step: 1.0]), 3)
    assert path.lrs.tolist() == [[1.0, 0.1], [0.5, 0.1], [1 / 3, 0.1]]


def test_a_picture_on_the_callers_axes():
    from matplotlib.figure import Figure

    figure = Figure()
    ax = figure.add_subplot()
    assert lrfinder.plot_schedule(lrfinder.sgdr(sgd(), 1.0, 50), steps=50, ax=ax) is figure
    assert ax.get_xlabel() == "step"


@pytest.mark.parametrize("schedule", [3, ReduceLROnPlateau, lambda optimizer: None], ids=["number", "plateau", "nothing"])
def test_what_cannot_be_followed_is_refused(schedule):
    with pytest.raises(BadType, match=r"plot_schedule cannot follow a (int|ReduceLROnPlateau|NoneType)"):
        lrfinder.plot_schedule(schedule, steps=10)


# Refusals ---------------------------------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "base above max": (lambda o: lrfinder.clr(o, 0.1, 10, base_lr=1.0), BadArgument, "base_lr=1 is above max_lr=0.1; swap"),
    "start above max": (lambda o: lrfinder.one_cycle(o, 0.1, 10, start_lr=1.0), BadArgument, "start_lr=1 is above max_lr=0.1; swap"),
    "unknown mode": (lambda o: lrfinder.clr(o, 0.1, 10, mode="square"), BadArgument, "mode='square' is unknown; choose 'triangular'"),
    "unknown anneal": (lambda o: lrfinder.one_cycle(o, 0.1, 10, anneal="exp"), BadArgument, "anneal='exp' is unknown; choose 'cos'"),
    "no steps": (lambda o: lrfinder.sgdr(o, 0.1, 0), BadArgument, "total_steps=0 is too small; pass at least 1"),
    "no LR": (lambda o: lrfinder.sgdr(o, 0.0, 10), BadArgument, "max_lr=0 is not a positive finite number; pass one"),
    "no cycle": (lambda o: lrfinder.sgdr(o, 0.1, 10, cycles=0), BadArgument, "cycles=0 is too small; pass at least 1"),
    "shrinking": (lambda o: lrfinder.sgdr(o, 0.1, 10, T_mult=0.5), BadType, "T_mult=0.5 is not a whole number; pass one"),
    "all warm-up": (lambda o: lrfinder.sgdr(o, 0.1, 10, warmup_steps=10), BadArgument, "leaves nothing of total_steps=10; pass fewer"),
    "warm-up from above": (
        lambda o: lrfinder.clr(o, 0.1, 10, warmup_steps=2, warmup_lr=0.1),
        BadArgument,
        "warmup_lr=0.1 is above the 0.025 that the warm-up leads to; pass less",
    ),
    "a rise of one step": (lambda o: lrfinder.one_cycle(o, 0.1, 10, pct_start=0.1), BadArgument, "divides by zero; pass another"),
    "a rise over half": (
        lambda o: lrfinder.one_cycle(o, 0.1, 10, pct_start=0.6, three_phase=True),
        BadArgument,
        "more than half of the steps; pass one",
    ),
    "momentum of one": (lambda o: lrfinder.one_cycle(o, 0.1, 10, momentum=(0.9, 1.0)), BadArgument, "below 1; pass one such as"),
    "nothing to draw": (lambda o: lrfinder.plot_schedule(steps=3), BadArgument, "got no schedule; pass a torch scheduler"),
    "no steps to draw": (lambda o: lrfinder.plot_schedule(lrfinder.sgdr, steps=0), BadArgument, "steps=0 is too small"),
    "no optimizer": (lambda o: lrfinder.clr([o], 0.1, 10), BadType, "optimizer is a list, not a torch.optim.Optimizer; pass the object"),
}


@pytest.mark.parametrize(("call", "error", "sentence"), BAD.values(), ids=BAD)
def test_bad_arguments_get_one_sentence_before_any_lr_is_set(call, error, sentence):
    optimizer = sgd(momentum=0.9)
    before = repr(optimizer.param_groups)
    with pytest.raises(error) as caught:
        call(optimizer)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert repr(optimizer.param_groups) == before
