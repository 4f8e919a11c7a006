"""Every param group swept alone breaks where its own curvature says, and the curve names the first."""

from __future__ import annotations

from statistics import median
from typing import Any

import numpy as np
import pytest
import torch
import trainings
from oracles import Quadratic, assert_untouched, fingerprint, loss_itself
from trainings import ADAMW, SGD, Training, make

from hessian.errors import BadArgument
from lrfinder import LRCurve, load, range_test

RANGE = {"start_lr": 1e-5, "end_lr": 1.0, "num_iter": 40, "progress": False}


def watched(training: Training, **changes: Any) -> LRCurve:
    """A range test of every group, and the check that it left no trace."""
    before = fingerprint(training.model, training.optimizer, [training.data])
    try:
        return range_test(**{**training.arguments, **RANGE, "per_group": True, **changes})
    finally:
        assert_untouched(before, fingerprint(training.model, training.optimizer, [training.data]))


# A known answer -----------------------------------------------------------------------------------------------------------------


class Pulled(Quadratic):
    """With a small force of each batch, so that the weights never come to rest and a rise is seen as soon as there is one."""

    def forward(self, batch: Any) -> Any:
        return super().forward(batch) + batch @ torch.cat([self.first.reshape(-1), self.second])


FORCES = 0.1 * np.random.default_rng(0).normal(size=(7, 5))


def quadratic(curvatures: tuple[float, float], lrs: tuple[float, float]) -> dict[str, Any]:
    """Two groups of plain SGD that do not touch each other, each with one curvature; alone it is stable up to two over that."""
    model = Pulled(torch.diag(torch.tensor(spread(curvatures))))
    groups = [{"params": [model.first], "lr": lrs[0], "name": "first"}, {"params": [model.second], "lr": lrs[1], "name": "second"}]
    return {"model": model, "optimizer": torch.optim.SGD(groups), "data": list(torch.tensor(FORCES)), "loss_fn": loss_itself}


def spread(pair: tuple[float, float]) -> Any:
    """A number of each group for each weight: two in the first, three in the second."""
    return np.repeat(np.array(pair), (2, 3))


def broken_by_hand(weights: Any, curvatures: Any, rates: Any) -> int:
    """The step at which ``h w^2 / 2 + b w`` breaks when ``w`` moves by ``-lr (h w + b)``; the documented rule, once more."""
    losses, best = [], np.inf
    for step, lr in enumerate(rates):
        force = FORCES[step % len(FORCES)]
        losses.append(float(weights @ (curvatures * weights) / 2 + force @ weights))
        current = median(losses[-3:])
        best = min(best, current)
        if min(losses) > 0 and len(losses) >= 5 and current > max(4 * best, 1.2 * median(losses[:5])):
            return step
        weights = weights - lr * (curvatures * weights + force)
    raise AssertionError("the grid is too short")


@pytest.mark.parametrize(
    ("curvatures", "lrs", "first"),
    [((4.0, 1.0), (0.1, 0.1), 0), ((1.0, 4.0), (0.1, 0.1), 1), ((4.0, 1.0), (0.01, 0.1), 1), ((1.0, 4.0), (0.1, 0.01), 0)],
    ids=["sharper first", "sharper second", "sharper but slower first", "sharper but slower second"],
)
def test_a_group_alone_breaks_where_its_curvature_says(curvatures, lrs, first):
    arguments = quadratic(curvatures, lrs)
    start = torch.cat([part.detach().reshape(-1) for part in arguments["model"].parameters()]).numpy().copy()
    curve = range_test(**arguments, per_group=True, start_lr=0.1, end_lr=100.0, num_iter=250, progress=False)
    assert [(alone.group, alone.group_name) for alone in curve.groups] == [(0, "first"), (1, "second")]
    for index, alone in enumerate(curve.groups):
        assert alone.ratio == pytest.approx(lrs[index] / max(lrs))
        moves = spread((float(index == 0), float(index == 1)))
        grid = np.geomspace(alone.start_lr, alone.end_lr, 250)
        step = broken_by_hand(start, spread(curvatures), grid[:, None] * moves)
        assert (len(alone.lrs), alone.status) == (step + 1, "diverged")
        assert alone.break_lr == pytest.approx(grid[step])
        assert 2 / curvatures[index] < alone.break_lr < 3.5 / curvatures[index]  # a sweep is past the limit when it notices
    limits = [2 / curvatures[index] / (lrs[index] / max(lrs)) for index in range(2)]
    found = curve.first_to_break
    assert found.group == limits.index(min(limits)) == first
    assert (found.name, found.lr) == (("first", "second")[first], curve.groups[first].break_lr / curve.groups[first].ratio)
    assert curve.break_lr == pytest.approx(found.lr, rel=0.1)  # of the joint sweep: the first to break breaks all
    assert f"groups alone: {first} ({found.name}) breaks first, at {found.lr:.2g}; {1 - first} (" in " ".join(str(curve).split())


# A real net ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_every_sweep_is_that_of_a_loop_written_by_hand(optimizer):
    training = make(optimizer, groups=True)
    training.optimizer.param_groups[0]["name"] = "backbone"
    training.optimizer.param_groups[1]["name"] = "head"
    base = [float(group["lr"]) for group in training.optimizer.param_groups]
    curve = watched(training)
    assert curve.losses.tolist() == watched(make(optimizer, groups=True), per_group=False).losses.tolist()
    assert (curve.group, curve.ratio, curve.left_out) == (None, 1.0, ())
    for index, alone in enumerate(curve.groups):
        ratio = base[index] / max(base)
        grid = np.geomspace(1e-5 * ratio, ratio, 40)
        mine = make(optimizer, groups=True)
        trainings.seed_by_hand(0, mine.data)
        lrs = [[lr, 0.0] if index == 0 else [0.0, lr] for lr in grid.tolist()]
        assert alone.losses.tolist() == trainings.train(mine, len(alone.losses), lambda step, lrs=lrs: lrs[step])
        assert alone.lrs.tolist() == grid[: len(alone.lrs)].tolist()
        assert (alone.group, alone.group_name, alone.ratio) == (index, ("backbone", "head")[index], ratio)
        assert alone.setting == curve.setting
        assert str(alone).startswith(f"range test of group {index} ({alone.group_name}) alone ")
        assert len(alone.lrs) > 25


def test_groups_are_scored_like_the_joint_sweep_and_saved_with_it(tmp_path):
    val = [trainings.points(24, seed=3)]
    curve = watched(make(groups=True), val_data=val, metric="accuracy", end_lr=30)
    assert {(alone.scored_on, alone.metric_name, len(alone.metric) == len(alone.lrs)) for alone in curve.groups} == {
        ("val_data", "accuracy", True)
    }
    assert load(curve.save(tmp_path / "lr.json")) == curve
    assert len({alone.losses[0] for alone in curve.groups}) == 2  # scored after a step of that group
    assert curve.groups[0].losses[0] == pytest.approx(curve.groups[1].losses[0], rel=1e-3)  # from the same weights


def test_groups_that_never_broke_are_said_to_be_so():
    curve = watched(make(groups=True), end_lr=1e-3)
    assert curve.first_to_break is None
    assert curve.group_breaks == ()
    assert "groups alone: 0 never broke up to 0.001; 1 never broke up to 0.001" in " ".join(str(curve).split())


def with_frozen(*, by: str) -> Training:
    """Three groups, the middle one frozen."""
    training = make()
    layers = [training.model[0], training.model[1], training.model[4]]
    training.optimizer = torch.optim.SGD([{"params": layer.parameters()} for layer in layers], lr=0.1)
    if by == "lr":
        training.optimizer.param_groups[1]["lr"] = 0.0
    else:
        layers[1].requires_grad_(False)
    return training


@pytest.mark.parametrize("by", ["lr", "requires_grad"])
def test_a_frozen_group_is_left_out_with_a_word(by):
    curve = watched(with_frozen(by=by))
    assert [alone.group for alone in curve.groups] == [0, 2]
    assert curve.left_out == (1,)
    assert " ".join(str(curve).split()).endswith("; 1 left out (frozen)")


def test_a_step_of_ones_own_with_two_optimizers():
    training = make()
    first = torch.optim.SGD(training.model[0].parameters(), lr=0.01)
    second = torch.optim.SGD([*training.model[1].parameters(), *training.model[4].parameters()], lr=0.1)

    def step(batch: Any) -> Any:
        first.zero_grad()
        second.zero_grad()
        loss = training.loss(batch)
        loss.backward()
        first.step()
        second.step()
        return loss

    before = fingerprint(training.model, second, [training.data])
    curve = range_test(training.model, [first, second], training.data, step_fn=step, per_group=True, **RANGE)
    assert_untouched(before, fingerprint(training.model, second, [training.data]))
    assert [alone.ratio for alone in curve.groups] == pytest.approx([0.1, 1.0])


# Refusals and ends --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("training", "changes", "words"),
    [
        (make, {}, "per_group compares param groups, but the optimizer has 1 param group; give each part of the model its own"),
        (lambda: only_one_moves(), {}, "has 2 param groups, of which 1 can move"),
        (lambda: make(groups=True), {"start_lr": 1.2e-300}, "do not lie between 1e-300 and 1e[+]300"),
    ],
    ids=["one group", "one that moves", "an LR too small for one"],
)
def test_what_cannot_be_compared_is_refused_before_anything_moves(training, changes, words):
    made, calls = training(), []
    made.model.register_forward_hook(lambda *args: calls.append(None))
    with pytest.raises(BadArgument, match=words):
        watched(made, **changes)
    assert calls == []


def only_one_moves() -> Training:
    training = make(groups=True)
    training.optimizer.param_groups[1]["lr"] = 0.0
    return training


class Stopping:
    """A criterion that raises at one of its calls."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.at, self.error, self.calls = at, error, 0

    def __call__(self, output: Any, target: Any) -> Any:
        self.calls += 1
        if self.calls == self.at:
            raise self.error
        return torch.nn.functional.cross_entropy(output, target)


@pytest.mark.parametrize(("steps", "groups"), [(5, []), (20 + 7, [7]), (20, [0]), (40 + 3, [20, 3])])
def test_ctrl_c_gives_the_groups_that_were_swept(steps, groups):
    training = make(groups=True)
    training.criterion = Stopping(steps + 2, KeyboardInterrupt())  # the first call is the check before the sweep
    curve = watched(training, num_iter=20, end_lr=1e-3)
    assert [len(alone.lrs) for alone in curve.groups] == groups
    assert (curve.status, len(curve.lrs)) == (("completed", 20) if groups else ("interrupted", 5))
    assert not groups or curve.groups[-1].status == "interrupted"
    assert str(curve)


def test_an_error_in_a_groups_sweep_carries_the_joint_one():
    training, error = make(groups=True), ZeroDivisionError("mine")
    training.criterion = Stopping(30, error)
    with pytest.raises(ZeroDivisionError):
        watched(training, num_iter=20, end_lr=1e-3)
    assert (error.curve.status, len(error.curve.lrs), len(error.curve.groups)) == ("completed", 20, 1)
