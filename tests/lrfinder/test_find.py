"""``find_lr``: one call, one answer that trains, no trace; and what its results say, print, save and read back."""

from __future__ import annotations

import copy
import json
import math
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice, repeat
from typing import Any

import numpy as np
import pytest
import torch
import trainings
from curves import make_curve, make_limit
from hypothesis import given
from hypothesis import strategies as st
from oracles import assert_untouched, fingerprint
from torch import nn
from torch.utils.data import DataLoader, IterableDataset
from trainings import ADAM, ADAMW, RMSPROP, SGD, Training, make

import lrfinder
from hessian.doubts import CurvatureDoubt
from hessian.errors import BadArgument, NoSuggestionError
from hessian.readings import SharpnessReading, SharpnessRecord
from hessian.result_base import Result
from hessian.results import CriticalLR, EigenResult, Estimate, SpectralDensity
from lrfinder import Doubt, Suggestion, find_lr, load, suggest_lr
from lrfinder import find as find_module
from lrfinder import search as search_module
from lrfinder.budget import BUDGETS, LEAST, split_budget
from lrfinder.comparison import Comparison
from lrfinder.constants import CONSTANTS
from lrfinder.curve import LEAST_POINTS, LRCurve
from lrfinder.demo import make as make_demo
from lrfinder.find import PATIENCE
from lrfinder.results import Confirmation, ProbeRun, Probes
from lrfinder.scoring import SETTLING
from lrfinder.setaside import MOST_BATCHES
from lrfinder.sweep import sweep

OPTIMIZERS = pytest.mark.parametrize("optimizer", [SGD, ADAM, ADAMW, RMSPROP], ids=["sgd", "adam", "adamw", "rmsprop"])
ALONE = max(budget for budget in range(LEAST, 350) if not split_budget(budget).length)  # the largest budget without short trainings
PLAN = {"total_steps": 120, "budget": ALONE, "progress": False}


def found_in(training: Training, **changes: Any) -> Suggestion:
    """``find_lr``, and the check that it left no trace, also where it raises."""
    before = fingerprint(training.model, training.optimizer, [training.data])
    try:
        return find_lr(**{**training.arguments, **PLAN, **changes})
    finally:
        assert_untouched(before, fingerprint(training.model, training.optimizer, [training.data]))


# The same answer, no trace ------------------------------------------------------------------------------------------------------


@OPTIMIZERS
def test_the_same_call_gives_the_same_answer(optimizer):
    training = make(optimizer)
    first = found_in(training)
    torch.rand(3)
    training.data.generator.manual_seed(99)
    assert found_in(training) == first
    assert found_in(make(optimizer)) == first
    assert found_in(training, seed=1) != first


@OPTIMIZERS
def test_ten_steps_of_training_afterwards_are_those_without(optimizer):
    def ten_steps(search: bool) -> list[float]:
        training = make(optimizer)
        trainings.seed_by_hand(3, training.data)
        trainings.train(training, 5)
        if search:
            find_lr(**training.arguments, **PLAN)
        return trainings.train(training, 10)

    assert ten_steps(search=True) == ten_steps(search=False)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_the_callers_grad_mode_does_not_matter(context):
    expected, training = found_in(make()), make()
    with context():
        assert found_in(training) == expected


class Interrupted:
    """A criterion that does something else at one of its calls."""

    def __init__(self, at: int = 0, do: Any = None) -> None:
        self.at, self.do, self.calls = at, do, 0

    def __call__(self, output: Any, target: Any) -> Any:
        self.calls += 1
        if self.calls == self.at:
            self.do()
        return nn.functional.cross_entropy(output, target)


def calls_of(coarse: int, further: int, fine: int) -> dict[str, tuple[int, Any]]:
    """Which call of the loss falls where in a search without short trainings; what is recorded by then: of which sweep, how many points.

    Args:
        coarse: Steps of the coarse sweep.
        further: Batches that only the fine sweep was to have.
        fine: Steps of the fine sweep.
    """
    scored, planned, steps = 1, COARSE_POINTS, split_budget(ALONE).trial
    before = 1 + SETTLING + scored  # reading for the set-aside calls nothing
    baseline = before + planned
    second = baseline + coarse
    fine_sweep = second + further
    curvature = fine_sweep + fine
    trial = curvature + 1
    return {
        "first check": (1, None),
        "scoring before": (before, None),
        "first of the baseline": (before + 1, None),
        "last of the baseline": (baseline, None),
        "first coarse step": (baseline + 1, ("coarse", 0)),
        "middle of the coarse sweep": (baseline + 16, ("coarse", 15)),
        "last coarse step": (second, ("coarse", coarse - 1)),
        "baseline of further batches": (second + 1, ("coarse", coarse)),
        "last of further batches": (fine_sweep, ("coarse", coarse)),
        "first step": (fine_sweep + 1, ("fine", 0)),
        "middle of the sweep": (fine_sweep + 39, ("fine", 38)),
        "last step": (curvature, ("fine", fine - 1)),
        "curvature": (curvature + 1, ("fine", fine)),
        "confirming training": (trial + 5, ("fine", fine)),
        "statistics after": (trial + steps + SETTLING, ("fine", fine)),
        "scoring after": (trial + steps + SETTLING + scored, ("fine", fine)),
    }


COARSE_POINTS = 37  # four a decade over the nine decades from 1e-7 to 100, both ends included
PLACES = list(calls_of(20, 20, 50))


@dataclass
class Searched:
    """A search with both of its sweeps."""

    found: Suggestion
    coarse: LRCurve
    fine: LRCurve

    @property
    def calls(self) -> dict[str, tuple[int, Any]]:
        return calls_of(len(self.coarse.losses), self.fine.num_iter - self.coarse.num_iter, len(self.fine.losses))

    def recorded(self, place: str) -> tuple[LRCurve, int] | None:
        """The sweep that an error at that place comes with, and how much of it."""
        recorded = self.calls[place][1]
        if recorded is not None and recorded[0] == "fine" and recorded[1] < LEAST_POINTS:  # too short to judge: the one before says more
            recorded = "coarse", len(self.coarse.losses)
        return None if recorded is None else ({"coarse": self.coarse, "fine": self.fine}[recorded[0]], recorded[1])


@pytest.fixture(scope="module")
def searched() -> Searched:
    sweeps = []

    def noting(*args: Any) -> LRCurve:
        sweeps.append(sweep(*args))
        return sweeps[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_module, "sweep", noting)
        return Searched(find_lr(**make().arguments, **PLAN), *sweeps)


@pytest.fixture(scope="module")
def whole(searched) -> Suggestion:
    return searched.found


def test_the_table_of_calls_is_complete(searched):
    training = make()
    training.criterion = Interrupted()
    assert found_in(training) == searched.found
    assert training.criterion.calls == searched.calls["scoring after"][0]
    assert searched.coarse.num_iter == COARSE_POINTS
    assert searched.found.curve == searched.fine
    at = [call for call, _ in searched.calls.values()]
    assert at == sorted(set(at))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_an_error_comes_out_as_it_is_with_what_was_recorded(searched, place, kind):
    at, recorded = searched.calls[place][0], searched.recorded(place)
    training, error = make(), kind("mine")

    def throw() -> None:
        raise error

    training.criterion = Interrupted(at, throw)
    with pytest.raises(kind) as caught:
        found_in(training)
    assert caught.value is error
    curve = getattr(caught.value, "curve", None)
    if recorded is None:
        assert curve is None
    else:
        sweep, points = recorded
        assert curve.losses.tolist() == sweep.losses[:points].tolist()
        assert curve.baseline.tolist() == sweep.baseline[:points].tolist()
        assert curve.status == (sweep.status if points == len(sweep.losses) else "interrupted")


@pytest.mark.parametrize("place", ["middle of the coarse sweep", "middle of the sweep", "curvature", "confirming training"])
def test_a_real_ctrl_c_stops_the_search_and_leaves_no_trace(searched, place):
    at, (sweep, points) = searched.calls[place][0], searched.recorded(place)
    training = make()
    training.criterion = Interrupted(at, lambda: os.kill(os.getpid(), signal.SIGINT))
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as caught:
        found_in(training)
    assert caught.value.curve.losses.tolist() == sweep.losses[:points].tolist()
    assert signal.getsignal(signal.SIGINT) is handler


# The answer trains --------------------------------------------------------------------------------------------------------------


def validation_loss(demo: dict[str, Any]) -> float:
    demo["model"].eval()
    with torch.no_grad():
        losses = [demo["criterion"](demo["model"](inputs), classes).item() for inputs, classes in demo["val_data"]]
    demo["model"].train()
    return float(np.mean(losses))


def trained_loss(demo: dict[str, Any], lr: float) -> float:
    """Validation loss after the whole training with torch's 1cycle schedule at that peak; infinite if it blew up."""
    demo = copy.deepcopy(demo)
    optimizer, steps = demo["optimizer"], demo["total_steps"]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, cycle_momentum=False)
    for inputs, classes in islice(chain.from_iterable(repeat(demo["data"])), steps):
        optimizer.zero_grad()
        demo["criterion"](demo["model"](inputs), classes).backward()
        optimizer.step()
        if schedule.last_epoch < steps - 1:
            schedule.step()
    loss = validation_loss(demo)
    return loss if math.isfinite(loss) else math.inf


@pytest.mark.parametrize("name", ["digits-mlp", "mnist1d", "digits-cnn"])
def test_a_training_at_the_answer_beats_one_far_below_and_one_far_above(name):
    demo = make_demo(name)
    demo |= {"total_steps": demo["total_steps"] // 2, "budget": "quick", "progress": False}
    start = validation_loss(demo)
    found = find_lr(**demo)
    end = trained_loss(demo, found.lr)
    assert end < 0.7 * start
    assert end < trained_loss(demo, found.lr / 100)
    assert end < trained_loss(demo, found.lr * 100)


# Curvature ----------------------------------------------------------------------------------------------------------------------


class SignDescent(torch.optim.Optimizer):
    """Its step does not shrink with the gradient."""

    def __init__(self, parameters: Any, lr: float = 1e-3) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.sub_(group["lr"] * parameter.grad.sign())


class OnceDifferentiable(torch.autograd.Function):
    """The identity, without a second derivative."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Any) -> Any:
        return gradient


def plain_text(found: Any) -> str:
    return " ".join(str(found).split())


def test_curvature_is_measured_with_the_optimizers_own_limit(whole):
    assert whole.limit.formula == "3.8 / sharpness"
    assert "stable up to" in plain_text(whole)
    assert whole.no_limit is None


@pytest.mark.parametrize(
    ("optimizer", "criterion", "reason"),
    [
        (SignDescent, None, "no linear stability limit is known for SignDescent"),
    ],
    ids=["sign"],
)
def test_where_curvature_cannot_be_measured_the_sweep_decides_and_the_report_says_why(optimizer, criterion, reason):
    training = make(optimizer)
    training.criterion = criterion or training.criterion
    found = found_in(training)
    assert found.limit is None
    assert Doubt.NO_CURVATURE in found.doubts
    assert reason in found.no_limit
    assert f"not measured: {found.no_limit}" in plain_text(found)


def test_a_model_without_second_derivative_gets_its_limit_from_differences_and_the_report_says_so():
    training = make(SGD)
    training.criterion = lambda output, target: nn.functional.cross_entropy(OnceDifferentiable.apply(output), target)
    found = found_in(training)
    assert found.limit.method == "finite_difference"
    assert CurvatureDoubt.FINITE_DIFFERENCE.value in plain_text(found)
    assert found.lr == suggest_lr(found.curve, total_steps=120).lr


def test_curvature_may_be_left_out(whole):
    found = found_in(make(), curvature=False)
    assert (found.limit, found.no_limit) == (None, None)
    assert Doubt.NO_CURVATURE not in found.doubts
    assert "curvature not measured schedule" in plain_text(found)
    assert found.curve == whole.curve


# The plan -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [*BUDGETS, 160, 300])
def test_budgets(budget):
    found, spend = found_in(make(), budget=budget), split_budget(budget).held_to(PLAN["total_steps"])
    assert found.curve.num_iter <= spend.finest
    assert {run.steps for run in found.probes.runs} == {spend.length} if spend.length else found.probes is None
    places = CONSTANTS.fine_offsets if spend.large else CONSTANTS.offsets
    assert not spend.length or len(places) <= len(found.probes.runs) <= len(places) + CONSTANTS.extensions
    assert found.confirmation.steps in ({spend.trial, spend.length} if spend.length else {spend.trial})
    assert found.limit.num_batches == spend.batches
    assert found.limit.hvps <= spend.products


def test_no_training_is_longer_than_the_planned_one():
    found = found_in(make(), budget="thorough", total_steps=12)
    assert {run.steps for run in found.probes.runs} == {12}
    assert found.confirmation.steps == 12


def test_the_smallest_budget_still_answers():
    assert found_in(make(), budget=60).confirmation.passed


def test_a_length_that_is_not_given_is_ten_epochs():
    found = found_in(make(), total_steps=None)
    assert found.total_steps == 120
    assert Doubt.HORIZON_ASSUMED in found.doubts
    assert "1cycle peak, 120 steps" in plain_text(found)


def test_a_schedule_that_is_not_known_is_a_constant_lr():
    found = found_in(make(), schedule=None)
    assert found.schedule is None
    assert Doubt.SCHEDULE_UNKNOWN in found.doubts
    assert "(constant LR, 120 steps)" in plain_text(found)
    assert found.factors.keys().isdisjoint({"1cycle peak"})


def test_the_answer_is_that_of_suggest_lr_on_its_own_evidence(whole):
    for found in (whole, found_in(make(), budget="standard")):
        again = suggest_lr(found.curve, found.limit, probes=found.probes, total_steps=120)
        assert replace(again, confirmation=found.confirmation, doubts=found.doubts, gradients=found.gradients) == found
        assert set(again.doubts) - set(found.doubts) == {Doubt.UNCONFIRMED}


# Confirmation -------------------------------------------------------------------------------------------------------------------


class Numbered:
    """Batches in order that note which of them are read."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches, self.note = batches, [].append  # to a list that is no attribute: preserve would put that back

    @property
    def read(self) -> list[int]:
        return self.note.__self__

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        for index, batch in enumerate(self.batches):
            self.note(index)
            yield batch


class Watcher:
    """A criterion that notes which batch it is called on, and with which flags and gradients."""

    def __init__(self, model: nn.Module, batches: dict[str, list[Any]]) -> None:
        self.model, self.calls = model, []
        self.names = {target.data_ptr(): (name, i) for name, items in batches.items() for i, (_, target) in enumerate(items)}

    def __call__(self, output: Any, target: Any) -> Any:
        name, index = self.names[target.data_ptr()]
        self.calls.append((name, index, self.model.training, self.model[1].training, torch.is_grad_enabled()))
        return nn.functional.cross_entropy(output, target)


STEPS = split_budget(ALONE).trial


def last_training(calls: list[Any], scored: int, steps: int = STEPS) -> list[Any]:
    """The calls of the confirming training: before the last ones, which score it."""
    return calls[len(calls) - scored - steps : len(calls) - scored]


def test_without_val_data_some_batches_of_a_list_are_set_aside():
    training = make()
    data = trainings.batches()
    training.data = data
    training.criterion = watcher = Watcher(training.model, {"data": data})
    found = found_in(training, budget=ALONE)
    steps = split_budget(ALONE).trial
    assert found.confirmation.scored_on == "data"
    assert found.confirmation.steps == steps > 10  # more than one pass
    held = [call[1] for call in watcher.calls if not call[2]]
    held, again = held[: len(held) // 2], held[len(held) // 2 :]
    assert held == again == sorted(set(held))
    assert len(held) == 2  # a fifth of twelve
    rest = [index for index in range(12) if index not in held]
    trained = last_training(watcher.calls, SETTLING + len(held), steps)
    assert [call[1] for call in trained] == list(islice(trainings.forever(rest), steps))
    assert {call[2:] for call in trained} == {(True, True, True)}
    settling = last_training(watcher.calls, len(held), SETTLING)
    assert [call[1] for call in settling] == list(islice(trainings.forever(rest), steps, steps + SETTLING))  # the next ones
    assert {call[2:] for call in settling} == {(True, True, False)}
    assert {call[2:] for call in watcher.calls if not call[2]} == {(False, False, False)}


def test_val_data_are_scored_in_eval_mode_and_nothing_else_is_done_with_them():
    training = make()
    training.model[1].eval()  # a frozen BatchNorm stays what it is
    data, held_out = trainings.batches(), trainings.batches(6, 60)
    training.data = data
    training.criterion = watcher = Watcher(training.model, {"data": data, "val_data": held_out})
    numbered = Numbered(held_out)
    found = found_in(training, val_data=numbered)
    assert found.confirmation.scored_on == "val_data"
    assert "loss on val_data from" in plain_text(found)
    # Eight of the ten batches are read, once, and scored before and after.
    read = list(range(MOST_BATCHES))
    assert numbered.read == read
    scored = [call for call in watcher.calls if call[0] == "val_data"]
    assert [call[1] for call in scored] == read * 2
    assert {call[2:] for call in scored} == {(False, False, False)}
    # Batches of the data are called in train mode as the model stands: with gradients to train on, without for the baseline.
    assert {call[2:] for call in watcher.calls if call[0] == "data"} == {(True, False, True), (True, False, False)}
    assert [call[1] for call in last_training(watcher.calls, len(read))] == list(range(STEPS))  # none set aside


def test_the_order_of_val_data_is_put_back():
    held_out = make().data  # shuffled, by a generator of its own
    held_out.generator.manual_seed(8)
    before = held_out.generator.get_state()
    found_in(make(), val_data=held_out)
    assert torch.equal(held_out.generator.get_state(), before)


def batches_without(held: set[int], seed: int, count: int = 96, size: int = 8) -> Iterator[list[int]]:
    """Numbers of samples as a shuffling loader gives them, without those held, in batches of the usual size."""
    loader = DataLoader(range(count), batch_size=size, shuffle=True, generator=torch.Generator().manual_seed(seed))
    while True:
        rest = [index for batch in loader for index in batch.tolist() if index not in held]
        yield from (rest[i : i + size] for i in range(0, len(rest), size))


def test_the_confirmation_is_a_real_training():
    """Repeated by hand: steps of 1cycle at the answer, on all samples but a fifth, of which a whole number of batches are scored."""
    budget = ALONE
    steps = split_budget(budget).trial
    found = found_in(make(dropout=0.0), budget=budget)
    training = make(dropout=0.0)
    inputs, classes = trainings.points()
    held = np.random.default_rng(0).permutation(96)[:19]
    scored = held[:16]

    def score() -> float:
        training.model.eval()
        with torch.no_grad():
            return training.loss((inputs[scored], classes[scored])).item()

    training.model.train()
    picked = [(inputs[one], classes[one]) for one in islice(batches_without(set(held.tolist()), seed=0), steps + SETTLING)]
    trainings.settle(training, picked[:SETTLING])
    before = score()
    training = make(dropout=0.0)
    trial = Training(training.model, training.optimizer, picked, training.criterion)
    schedule = torch.optim.lr_scheduler.OneCycleLR(SGD([torch.zeros(1)]), found.lr, total_steps=steps, cycle_momentum=False)
    lrs = []
    for step in range(steps):
        lrs.append(schedule.get_last_lr())
        schedule.optimizer.step()
        if step < steps - 1:
            schedule.step()
    assert steps > 77 / 8  # the second pass has begun
    trainings.train(trial, steps, lambda step: lrs[step])
    trainings.settle(trial, picked[steps:])
    tried = found.confirmation
    assert (tried.lr, tried.steps) == (found.lr, steps)
    assert tried.before == pytest.approx(before, rel=1e-6)  # float32
    assert tried.after == pytest.approx(score(), rel=1e-4)  # the LRs differ in the last bit, which float32 weights carry on


def test_a_short_training_at_or_above_the_answer_confirms_it_without_another():
    training = make()
    training.criterion = Interrupted()
    found = found_in(training, budget="standard")
    above = min((run for run in found.probes.runs if run.lr >= found.lr), key=lambda run: run.lr)
    tried = found.confirmation
    assert (tried.lr, tried.steps, tried.before, tried.after) == (above.lr, above.steps, found.probes.before, above.after)
    assert tried.passed
    assert Doubt.UNCONFIRMED not in found.doubts
    assert f"{above.steps} steps at {above.lr:.2g} took the loss" in plain_text(found)


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([(0.5, 1.0), (1.0, 1.0), (2.0, 0.5)], 1.0),  # the nearest, though a farther one is better
        ([(2.0, 0.5), (3.0, 0.1)], 2.0),
        ([(0.99, 0.5)], None),
        ([(2.0, math.inf), (3.0, 0.1)], None),
        ([(2.0, 2.0)], None),  # no better than before
    ],
)
def test_which_short_training_counts_as_confirmation(runs, expected):
    """LRs in units of the suggestion."""
    losses = np.r_[np.full(30, 2.0), np.linspace(2, 1, 30), np.full(10, 9.0)]
    found = suggest_lr(make_curve(losses, status="diverged"), total_steps=100)
    probes = Probes(
        before=2.0,
        scored_on="data",
        scored=64,
        share=0.2,
        runs=tuple(ProbeRun(lr=lr * found.lr, steps=20, after=after) for lr, after in runs),
    )
    tried = find_module.passed_above(replace(found, probes=probes))
    assert (None if tried is None else tried.lr / found.lr) == (expected and pytest.approx(expected))
    assert find_module.passed_above(found) is None


class Endless(IterableDataset):
    """A stream that starts anew each time, of a length that it does not tell."""

    def __iter__(self) -> Any:
        return iter(list(zip(*trainings.points(), strict=True)))


@pytest.mark.parametrize(
    "data",
    [lambda: trainings.batches(96), lambda: DataLoader(Endless(), batch_size=8), lambda: lambda: trainings.batches()[3]],
    ids=["one batch", "a stream", "a function"],
)
def test_data_of_any_kind_can_be_confirmed_on(data):
    training = make()
    training.data = data()
    found = found_in(training)
    assert found.confirmation.passed
    assert found.confirmation.scored_on == "data"


def overestimate(monkeypatch: Any, factor: float) -> None:
    """Let the evidence suggest too much."""

    def too_much(*args: Any, **kwargs: Any) -> Suggestion:
        found = suggest_lr(*args, **kwargs)
        return replace(found, lr=found.lr * factor, interval=(found.interval[0] * factor, found.interval[1] * factor))

    monkeypatch.setattr(find_module, "suggest_lr", too_much)


def test_a_suggestion_that_does_not_train_is_lowered_until_it_does(monkeypatch, whole):
    overestimate(monkeypatch, 300.0)
    found = found_in(make())
    ratio = found.lr / (300 * whole.lr)
    assert ratio in [pytest.approx(3.0**-k) for k in (1, 2, 3, 4)]
    assert found.confirmation.passed
    assert found.confirmation.lr == pytest.approx(found.lr, rel=1e-12)
    assert found.interval == pytest.approx((300 * ratio * whole.interval[0], 300 * ratio * whole.interval[1]))
    assert found.interval[0] < found.lr < found.interval[1]
    assert found.factors == {**whole.factors, "a higher LR failed in a short training": pytest.approx(ratio)}
    assert Doubt.LOWERED in found.doubts
    assert Doubt.UNCONFIRMED not in found.doubts
    assert (Doubt.ABOVE_LIMIT in found.doubts) == (found.lr > found.limit.curvature_lr)
    assert Doubt.LOWERED not in whole.doubts


@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["sgd", "adam"])
def test_a_warm_up_of_adam_starts_at_the_limit_of_its_first_step(optimizer, monkeypatch):
    steady = found_in(make(optimizer), schedule="constant")
    assert steady.limit.first_step_lr is None  # below the limit nothing is spent on it
    overestimate(monkeypatch, 2 * steady.limit.curvature_lr / steady.lr)
    limit = found_in(make(optimizer), schedule="constant").limit
    if optimizer is ADAM:
        assert limit.first_step_lr < limit.curvature_lr
        assert limit.hvps > steady.limit.hvps
    high = replace(steady, limit=limit, lr=2 * limit.curvature_lr)
    assert high.warmup.start_lr == (limit.first_step_lr or limit.curvature_lr)


def test_where_no_lr_trains_there_is_no_suggestion():
    """The labels of ``val_data`` are wrong: whatever is learned on the data makes them worse."""
    held_out = [(inputs, (classes + 1) % 3) for inputs, classes in trainings.batches()]
    training = make()
    training.model[1].eval()  # the running statistics of a fresh BatchNorm fit better with every batch, whatever is learned
    with pytest.raises(NoSuggestionError, match=r"all left the held-out loss at or above its start .*; check the data") as caught:
        found_in(training, val_data=held_out)
    assert caught.value.curve == found_in(training).curve
    assert f"trainings of {min(PATIENCE * STEPS, PLAN['total_steps'])} steps at LRs from" in str(caught.value)


def test_a_plateau_is_no_failure(monkeypatch, whole):
    """The training at the answer leaves the loss where it was, the longer one too: the answer stands, with a doubt."""
    tried = []

    def score(self: Any, lr: float, steps: int, schedule: Any = None) -> float:
        tried.append((lr, steps))
        return self.before * (1 + 1e-4)

    monkeypatch.setattr("lrfinder.probe.Prober.train", score)
    found = found_in(make())
    assert (found.lr, found.interval) == (whole.lr, whole.interval)
    assert tried == [(found.lr, STEPS), (found.lr, min(PATIENCE * STEPS, PLAN["total_steps"]))]
    assert Doubt.PLATEAU in found.doubts
    assert Doubt.PLATEAU not in whole.doubts
    assert not found.confirmation.passed


def test_on_a_plateau_the_sweep_decides_and_a_chance_gain_confirms_nothing(monkeypatch):
    """Every training moves the loss by next to nothing, some down: neither their order nor that they passed counts."""
    tried = []

    def score(self: Any, lr: float, steps: int, schedule: Any = None) -> float:
        tried.append(steps)
        return self.before * (1 + (1e-4 if len(tried) % 2 else -1e-4))

    monkeypatch.setattr("lrfinder.probe.Prober.train", score)
    found = found_in(make(), budget="standard")
    assert "sweep to training" in found.factors
    assert found.doubts.count(Doubt.PLATEAU) == 1
    spend = split_budget("standard").held_to(PLAN["total_steps"])
    assert tried[len(found.probes.runs) :][:1] == [spend.trial]  # a training at the answer itself


def test_a_flat_sweep_gives_no_suggestion_but_the_curve():
    training = make()
    training.criterion = lambda output, target: (output * 0).mean() + 1.0
    with pytest.raises(NoSuggestionError, match="never falls by more than batch noise") as caught:
        found_in(training)
    assert caught.value.curve.losses.tolist() == [1.0] * caught.value.curve.num_iter


# Applying it --------------------------------------------------------------------------------------------------------------------


def test_apply_gives_the_largest_group_the_answer_and_the_others_their_share(whole):
    training = make(ADAMW, groups=True)
    whole.apply(training.optimizer)
    assert [group["lr"] for group in training.optimizer.param_groups] == [pytest.approx(whole.lr / 2), whole.lr]
    assert not any("initial_lr" in group for group in training.optimizer.param_groups)


def test_apply_moves_the_base_of_a_scheduler_too(whole):
    training = make(ADAMW, groups=True)
    torch.optim.lr_scheduler.LambdaLR(training.optimizer, lambda step: step / 10)  # every lr is 0.0 now
    whole.apply(training.optimizer)
    for key in ("lr", "initial_lr"):
        assert [group[key] for group in training.optimizer.param_groups] == [pytest.approx(whole.lr / 2), whole.lr]


def test_apply_fills_a_tensor_lr(whole):
    lr = torch.tensor(0.02)
    optimizer = torch.optim.SGD(make().model.parameters(), lr=lr)
    whole.apply(optimizer)
    assert optimizer.param_groups[0]["lr"] is lr
    assert float(lr) == pytest.approx(whole.lr, rel=1e-6)  # float32


# Print --------------------------------------------------------------------------------------------------------------------------


def some_probes() -> Probes:
    after = {1e-3: 1.9, 3e-3: 1.2, 1e-2: 0.4, 3e-2: math.inf}
    runs = tuple(ProbeRun(lr=lr, steps=20, after=loss) for lr, loss in after.items())
    return Probes(before=2.0, scored_on="data", scored=64, share=0.2, runs=runs)


def every_suggestion() -> list[Suggestion]:
    losses = np.r_[np.full(30, 2.0), np.linspace(2, 1, 30), np.full(10, 9.0)]
    long = make_curve(losses, status="diverged", model="A" * 40, optimizer="B" * 30)
    doubtful = replace(suggest_lr(long, make_limit(1e-3), probes=some_probes()), doubts=tuple(Doubt), no_limit="because " * 40)
    tried = Confirmation(lr=1e-3, steps=18, before=2.0, after=math.inf, scored_on="val_data")
    return [doubtful, replace(doubtful, limit=None, confirmation=tried), replace(doubtful, doubts=())]


@pytest.mark.parametrize("found", every_suggestion(), ids=["limit", "no limit", "no doubts"])
def test_the_report_fits_eighty_columns_and_keeps_nothing_back(found):
    text = str(found)
    assert max(map(len, text.splitlines())) <= 80
    for doubt in found.doubts:
        assert doubt.value in plain_text(found)
    assert ("doubts" in text) == bool(found.doubts)
    assert plain_text(found).startswith(f"suggested lr {found.lr:.2g} good range {found.interval[0]:.2g} to {found.interval[1]:.2g}")
    for name, factor in found.factors.items():
        assert f"x{factor:.2g} ({name})" in plain_text(found)


def test_the_report_counts_the_short_trainings():
    found = every_suggestion()[0]
    assert "4 from the start (1 blew up), 20 steps, best near" in plain_text(found)
    assert "scored on 64 samples of data (20% set aside)" in plain_text(found)
    unknown = replace(found, probes=replace(found.probes, scored=None, share=None, scored_on="val_data"))
    assert "scored on samples of val_data " in plain_text(unknown)
    assert "set aside)" not in plain_text(unknown)


def test_the_report_of_a_real_search_fits_too(whole):
    assert max(map(len, str(whole).splitlines())) <= 80
    assert f"{STEPS} steps at" in plain_text(whole)
    assert "Sequential, SGD(momentum=0.9), batch 8, seed 0" in plain_text(whole)


# Files --------------------------------------------------------------------------------------------------------------------------

BROKEN = make_curve([2.0, 1.5, 1.0, 1e300, math.inf], status="nonfinite")


def some_reading() -> SharpnessReading:
    fields = {"sharpness": math.nan, "limit_lr": math.inf, "hvps": 3, "doubts": (CurvatureDoubt.YOUNG,)}
    return SharpnessReading(step=2, lr=0.0, advice="Wait.", **fields)


def every_result() -> dict[str, Result]:
    tried = Confirmation(lr=1e-3, steps=18, before=math.nan, after=math.inf, scored_on="data")
    return {
        "lr_curve": make_curve([math.nan, -math.inf, 0.1 + 0.2, 5e-324, math.inf], batch_size=None, samples=7, baseline=[0.1] * 5),
        "suggestion": replace(every_suggestion()[0], curve=BROKEN, confirmation=tried),
        "confirmation": tried,
        "probe_run": some_probes().runs[-1],
        "probes": replace(some_probes(), scored=None, share=None),
        "stable_lr": make_limit(0.1, batch_size=None, residual=math.nan),
        "estimate": Estimate(value=math.nan, error=0.1, hvps=3),
        "critical_lr": CriticalLR(lr=0.1, low=0.09, high=0.11, forwards=7),
        "spectral_density": SpectralDensity(
            grid=np.array([0.0, 1.0]),
            density=np.array([0.5, 0.5]),
            error=np.array([math.nan, math.inf]),
            smallest=0.0,
            largest=1.0,
            size=2,
            num_probes=1,
            steps=2,
            sigma=0.1,
            hvps=2,
        ),
        "comparison": Comparison(names=("a", "b"), results=(make_curve([2.0, 1.0]), make_limit(0.1))),
        "sharpness_reading": some_reading(),
        "sharpness_record": SharpnessRecord(readings=(some_reading(),), optimizer="SGD", preconditioned=False, along="hessian"),
        "eigen": EigenResult(values=np.array([4.0, -1.0]), residuals=np.array([1e-9, math.inf]), converged=False, hvps=3),
    }


def test_every_kind_of_result_is_covered():
    assert set(every_result()) == set(Result.kinds)


def reject(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@pytest.mark.parametrize("kind", Result.kinds)
def test_every_result_comes_back_from_json(tmp_path, kind):
    result = every_result()[kind]
    path = result.save(tmp_path / "result.json")
    read = load(path)
    assert type(read) is type(result)
    assert read == result
    assert hash(read) == hash(result)
    assert read.to_json() == result.to_json()
    json.loads(path.read_text(), parse_constant=reject)  # NaN and Infinity, which only Python would read


def test_a_search_comes_back_from_json(tmp_path, whole):
    read = load(whole.save(tmp_path / "found.json"))
    assert read == whole
    assert str(read) == str(whole)
    assert read.doubts == whole.doubts
    assert read.curve.losses.tolist() == whole.curve.losses.tolist()


@given(losses=st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=30))
def test_any_losses_come_back_bit_for_bit(losses):
    curve = make_curve(losses)
    read = Result.from_dict(json.loads(curve.to_json()))
    assert np.array_equal(read.losses, curve.losses, equal_nan=True)
    assert np.array_equal(np.signbit(read.losses[~np.isnan(losses)]), np.signbit(curve.losses[~np.isnan(losses)]))
    assert read.lrs.tolist() == curve.lrs.tolist()


def damaged() -> dict[str, bytes]:
    text = BROKEN.to_json()
    whole = json.loads(text)

    def changed(**changes: Any) -> bytes:
        return json.dumps({key: value for key, value in {**whole, **changes}.items() if value != "gone"}).encode()

    return {
        "empty": b"",
        "cut short": text[:200].encode(),
        "binary": bytes(range(256)),
        "a picture": b"\x89PNG\r\n\x1a\n",
        "a number": b"3",
        "a list": b"[1, 2]",
        "null": b"null",
        "deep": b"[" * 100_000,
        "foreign": b'{"lr": 0.1}',
        "other kind": changed(kind="weather"),
        "kind is a list": changed(kind=["lr_curve"]),
        "later schema": changed(schema=2),
        "missing field": changed(losses="gone"),
        "unknown field": changed(colour="red"),
        "text for a number": changed(start_lr="low"),
        "flag for a number": changed(seed=True),
        "fraction for an int": changed(num_iter=1.5),
        "huge integer": changed(start_lr=10**400),
        "unknown status": changed(status="asleep"),
        "lists of two lengths": changed(lrs=[1e-3]),
        "baseline of another length": changed(baseline=[1.0]),
        "baseline that is not finite": changed(baseline=[1.0, 1.0, 1.0, 1.0, "inf"]),
        "falling lrs": changed(lrs=[5.0, 4.0, 3.0, 2.0, 1.0]),
        "NaN among lrs": changed(lrs=["nan", 1.0, 2.0, 3.0, 4.0]),
        "nested lists": changed(losses=[[1.0], 2.0, 3.0, 4.0, 5.0]),
        "unknown doubt": json.dumps({**json.loads(every_result()["suggestion"].to_json()), "doubts": ["GLOOM"]}).encode(),
        "interval of three": json.dumps({**json.loads(every_result()["suggestion"].to_json()), "interval": [1, 2, 3]}).encode(),
    }


@pytest.mark.parametrize("name", damaged())
def test_a_damaged_or_foreign_file_is_refused_in_one_sentence(tmp_path, name):
    path = tmp_path / "result.json"
    path.write_bytes(damaged()[name])
    with pytest.raises(BadArgument, match=r"result\.json' is not a saved result: .*\.$") as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_file_of_another_kind_is_refused_by_the_class(tmp_path):
    path = make_limit().save(tmp_path / "limit.json")
    with pytest.raises(BadArgument, match="its kind is 'stable_lr'"):
        lrfinder.LRCurve.load(path)


def test_a_file_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing.json")


junk = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=3) | st.just({})


@given(data=st.data(), kind=st.sampled_from(sorted(Result.kinds)), value=junk)
def test_whatever_stands_in_one_field_the_file_is_read_or_refused(data, kind, value):
    whole = json.loads(every_result()[kind].to_json())
    whole[data.draw(st.sampled_from(sorted(whole)))] = value
    try:
        read = Result.from_dict(whole)
    except (ValueError, TypeError):  # what ``load`` turns into its sentence
        return
    assert Result.from_dict(json.loads(read.to_json())) == read
