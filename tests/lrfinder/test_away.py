"""Losses on an accelerator: they stay there and are read in blocks, and the curve is the one of a sweep that reads each at once."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pytest
import torch
from oracles import assert_untouched, fingerprint
from test_probe import prober_of
from torch.utils._python_dispatch import TorchDispatchMode
from trainings import ADAM, Training, batches, make, step_of

from hessian.readout import BLOCK
from lrfinder import LRCurve, LRSweep, find_lr, range_test

RANGE: Any = {"start_lr": 1e-5, "end_lr": 1.0, "num_iter": 100, "progress": False}
LISTS = {torch.Tensor.tolist, torch.Tensor.cpu, torch.Tensor.numpy}  # of all that reads a tensor, what is not dispatched on a CPU


class Away(torch.Tensor):
    """A loss that says it does not lie on the CPU; its lists are counted."""

    lists: ClassVar[list[Any]] = []

    @property
    def is_cpu(self) -> bool:
        return False

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.lists.extend([function] if function in LISTS else [])
        return super().__torch_function__(function, types, args, kwargs or {})


class Waits(TorchDispatchMode):
    """Counts how often the host reads a value: each would wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.items = 0
        self.before = len(Away.lists)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.items += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))

    @property
    def count(self) -> int:
        return self.items + len(Away.lists) - self.before


def away(loss: torch.Tensor) -> torch.Tensor:
    return loss.as_subclass(Away)


def here(loss: torch.Tensor) -> torch.Tensor:
    return loss


def swept(where: Any, training: Training | None = None, **changes: Any) -> LRCurve:
    """A sweep around steps of one's own, and the check that it left no trace."""
    training = training or make()
    before = fingerprint(training.model, training.optimizer, [training.data])
    try:
        with LRSweep(training.model, training.optimizer, **{**RANGE, **changes}) as sweep:
            for batch in sweep(training.data):
                sweep.report(where(step_of(training, batch)))
    finally:
        assert_untouched(before, fingerprint(training.model, training.optimizer, [training.data]))
    return sweep.curve


def ranged(where: Any, training: Training | None = None, *, test: Any = range_test, **changes: Any) -> LRCurve:
    """The same by ``range_test``."""
    training = training or make()
    before = fingerprint(training.model, training.optimizer, [training.data])
    loss_fn = changes.pop("loss_fn", lambda model, batch: where(training.criterion(model(batch[0]), batch[1])))
    arguments = {**training.arguments, "criterion": None, "loss_fn": loss_fn, **RANGE, **changes}
    try:
        return test(**arguments)
    finally:
        assert_untouched(before, fingerprint(training.model, training.optimizer, [training.data]))


ENDS: dict[str, Any] = {
    "completed": {"end_lr": 1e-3},
    "diverged": {"end_lr": 1e3, "stop_factor": 2.0},
    "nonfinite": {"end_lr": 1e30, "stop_factor": 1e300},
}


@pytest.mark.parametrize("sweep", [swept, ranged])
@pytest.mark.parametrize("end", ENDS)
def test_the_curve_is_that_of_losses_read_at_once(sweep, end):
    curve = sweep(away, **ENDS[end])
    assert curve.status == end
    assert curve == sweep(here, **ENDS[end])


@pytest.mark.parametrize("more", range(BLOCK))
def test_the_curve_is_the_same_wherever_the_end_falls_in_a_block(more):
    for changes in ({"num_iter": 24 + more, "end_lr": 1e-3}, {"num_iter": 60 + more, **ENDS["nonfinite"]}):
        assert swept(away, **changes).to_json() == swept(here, **changes).to_json()


@pytest.mark.parametrize(
    "changes",
    [{"accumulate": 3}, {"per_group": True}, {"accumulate": 2, "clip_norm": 1.0}],
    ids=str,
)
def test_so_it_is_with_windows_and_groups(changes):
    curves = [ranged(where, make(groups=True), **ENDS["diverged"], num_iter=50, **changes) for where in (away, here)]
    assert curves[0] == curves[1]
    assert curves[0].status == "diverged"


def test_so_it_is_with_a_step_of_ones_own_scores_and_a_search():
    def own(where: Any) -> LRCurve:
        training = make(ADAM)
        return range_test(**{**training.arguments, "criterion": None}, step_fn=lambda batch: where(step_of(training, batch)), **RANGE)

    assert own(away) == own(here)
    val = list(make().data)[:2]
    assert ranged(away, val_data=val, **ENDS["diverged"]) == ranged(here, val_data=val, **ENDS["diverged"])
    quick = {"budget": "quick", "start_lr": None, "end_lr": None, "num_iter": None}
    found = [
        ranged(where, test=lambda **given: find_lr(**{k: v for k, v in given.items() if v is not None}), **quick) for where in (away, here)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize(("sweep", "first"), [(swept, 0), (ranged, 1)])
def test_the_host_waits_for_the_device_once_a_block(sweep, first):
    """``range_test`` also looks at the first loss before anything moves."""
    for where, expected in ((away, math.ceil(100 / BLOCK)), (here, 100)):
        training = make()
        training.data = batches()  # a loader reads a seed that it draws, though not from a device
        with Waits() as waits:
            assert len(sweep(where, training, end_lr=1e-3).losses) == 100
        assert waits.count == expected + first


@pytest.mark.parametrize("lr", [1e-3, 1e30])
def test_short_trainings_end_alike_and_wait_once_a_block(lr):
    def trained(where: Any) -> tuple[float, int]:
        training = make()

        def loss_fn(model: Any, batch: Any) -> torch.Tensor:
            return where(training.criterion(model(batch[0]), batch[1]))

        with prober_of(training, loss_fn) as prober, Waits() as waits:
            return prober.train(lr, 40), waits.count

    (after, few), (expected, many) = trained(away), trained(here)
    assert after == expected
    assert math.isinf(after) == (lr > 1)
    assert lr > 1 or many - few == 40 - math.ceil(40 / BLOCK)


def test_losses_in_one_place_on_the_device_are_copied_before_it_is_written_to_again():
    """As a graph captured on it does."""
    place = torch.zeros(()).as_subclass(Away)
    assert swept(lambda loss: place.copy_(loss.detach())) == swept(here)


def test_losses_of_several_kinds_come_in_order():
    def mixed() -> Any:
        turns = iter(range(100))
        return lambda loss: [loss, away(loss), loss.item(), away(loss.double()), away(loss.reshape(1, 1))][next(turns) % 5]

    assert swept(mixed()) == swept(here)


def test_steps_that_were_not_made_come_again_at_the_same_lr():
    def run(where: Any) -> tuple[LRCurve, list[float]]:
        training, lrs = make(), []
        with LRSweep(training.model, training.optimizer, **{**RANGE, "num_iter": 20}) as sweep:
            for index, batch in enumerate(sweep(training.data)):
                lrs.append(training.optimizer.param_groups[0]["lr"])
                sweep.report(where(training.loss(batch)), skipped=index % 4 == 3)
        return sweep.curve, lrs

    assert run(away) == run(here)
    assert len(run(away)[1]) == 26


def test_the_curve_is_there_while_it_grows_and_where_the_loop_is_left():
    training, lengths = make(), []
    with LRSweep(training.model, training.optimizer, **RANGE) as sweep:
        for batch in sweep(training.data):
            sweep.report(away(step_of(training, batch)))
            if len(lengths) == 3:
                break
            lengths.append(len(sweep.curve.losses))
    assert lengths == [1, 2, 3]
    assert len(sweep.curve.losses) == 4


@pytest.mark.parametrize("where", [away, here])
def test_an_error_after_the_sweep_broke_is_none_of_the_sweep(where):
    """The steps too many start from broken weights: whatever they raise, a sweep that reads at once would not have made them."""

    def failing(training: Training) -> Any:
        def loss_fn(model: Any, batch: Any) -> torch.Tensor:
            output = model(batch[0])
            if model.training and not math.isfinite(training.model[0].weight.sum().item()):
                raise ValueError("the weights are NaN")
            return where(training.criterion(output, batch[1]))

        return loss_fn

    training = make()
    curve = ranged(where, training, loss_fn=failing(training), **ENDS["nonfinite"])
    assert curve.to_json() == ranged(here, **ENDS["nonfinite"]).to_json()


def test_an_error_before_that_comes_out_with_every_loss_until_then():
    def failing() -> Any:
        turns = iter(range(100))

        def where(loss: torch.Tensor) -> torch.Tensor:
            if next(turns) == 13:
                raise ZeroDivisionError("mine")
            return away(loss)

        return where

    for sweep, count in ((swept, 13), (ranged, 12)):
        with pytest.raises(ZeroDivisionError) as caught:
            sweep(failing())
        assert caught.value.curve.losses.tolist() == sweep(here).losses[:count].tolist()


def test_a_loss_that_is_no_number_is_refused_where_it_is_reported():
    for bad, said in ((torch.ones(8), "shape"), (torch.ones((), dtype=torch.cfloat), "a complex"), (torch.ones(()).bool(), "a bool")):
        with pytest.raises((ValueError, TypeError), match=f"report got .*{said}"):
            swept(lambda loss, bad=bad: away(bad))


class Broken(Away):
    """A loss whose reading fails, as every one does after an error that the device reports late."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.Tensor.tolist:
            raise RuntimeError("device-side assert triggered")
        return super().__torch_function__(function, types, args, kwargs or {})


@pytest.mark.parametrize(("sweep", "steps"), [(swept, BLOCK), (ranged, BLOCK)])
def test_an_error_that_the_device_tells_while_a_block_is_read_comes_out(sweep, steps):
    """Whoever is asked for the curve then must not wait for losses that never come."""
    with pytest.raises(RuntimeError, match="device-side assert") as caught:
        sweep(lambda loss: loss.as_subclass(Broken))
    assert len(caught.value.curve.losses) == 0


def test_skipped_steps_of_a_sweep_that_is_known_to_have_broken_are_its_last():
    """To skip one reads all losses before it: no further batch comes after a break among them."""
    training, reported = make(), []
    with LRSweep(training.model, training.optimizer, **{**RANGE, "stop_factor": 2.0}) as sweep:
        for index, _ in enumerate(sweep(training.data)):
            reported.append(index)
            sweep.report(away(torch.tensor(1.0 if index < 10 else 100.0)), skipped=index == 13)
    assert sweep.curve.status == "diverged"
    assert reported[-1] == 13
