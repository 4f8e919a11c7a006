"""Short real trainings: alike but for the LR, scored on what they have not seen, and counted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import pytest
import torch
import trainings
from hypothesis import given
from hypothesis import strategies as st
from oracles import assert_untouched, fingerprint
from torch import Tensor, nn
from trainings import ADAM, SGD, Training, make

from hessian.problem import Problem
from lrfinder.budget import Spent
from lrfinder.constants import CONSTANTS
from lrfinder.horizon import schedule_shape
from lrfinder.probe import CALM, WINDOW, Prober, blown_up
from lrfinder.progress import Progress
from lrfinder.scoring import SETTLING, evaluating, settle
from lrfinder.setaside import set_aside

STEPS = 25  # more than two passes


@contextmanager
def prober_of(training: Training, loss_fn: Any = None, seed: int = 0) -> Iterator[Prober]:
    """As ``find_lr`` makes it; everything comes back at the end."""
    criterion = None if loss_fn else training.criterion
    problem = Problem(training.model, training.optimizer, training.data, criterion, loss_fn=loss_fn)
    before = fingerprint(training.model, training.optimizer, [training.data])
    with problem.preserved() as snapshot:
        problem.seed(seed)
        yield Prober(problem, snapshot, set_aside(problem.batches, None, seed), seed, Progress(False), Spent())
    assert_untouched(before, fingerprint(training.model, training.optimizer, [training.data]))


class Recorder:
    """A loss that notes at every call what it was called on, in which modes, and with which LRs."""

    def __init__(self, optimizer: Any = None) -> None:
        self.calls: list[dict[str, Any]] = []
        self.optimizer = optimizer

    def __call__(self, model: Any, batch: Any) -> Any:
        self.calls.append(
            {
                "samples": [tuple(row) for row in batch[0].tolist()],
                "modes": [module.training for module in model.modules()],
                "gradients": torch.is_grad_enabled(),
                "lrs": None if self.optimizer is None else [group["lr"] for group in self.optimizer.param_groups],
            }
        )
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def taken(self, gradients: bool) -> list[dict[str, Any]]:
        """The calls of trainings, or those of scoring, since the last time; neither are those that settle running statistics."""
        wanted = [call for call in self.calls if call["gradients"] == gradients and (gradients or not any(call["modes"]))]
        self.calls = []
        return wanted

    def settling(self) -> list[dict[str, Any]]:
        """The calls that settle running statistics."""
        return [call for call in self.calls if not call["gradients"] and any(call["modes"])]


# Trainings ----------------------------------------------------------------------------------------------------------------------


def test_every_training_sees_the_same_batches_and_none_of_those_that_are_scored():
    training, recorder = make(), Recorder()
    with prober_of(training, recorder) as prober:
        scored = {sample for call in recorder.taken(False) for sample in call["samples"]}
        seen = []
        for lr in (1e-5, 1e-3, 0.1):
            prober.train(lr, STEPS)
            seen.append([call["samples"] for call in recorder.taken(True)])
    assert len(seen[0]) == STEPS
    assert seen[0] == seen[1] == seen[2]
    assert scored.isdisjoint(sample for batch in seen[0] for sample in batch)
    assert len(scored) == 16


@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["sgd", "adam"])
def test_every_training_starts_from_the_initial_weights(optimizer):
    training = make(optimizer)
    trainings.train(training, 3)  # so there is a state to start from
    with prober_of(training) as prober:
        first = prober.train(0.05, STEPS)
        prober.train(0.5, STEPS)
        assert prober.train(0.05, STEPS) == first


@pytest.mark.parametrize("schedule", ["constant", "onecycle", "cosine", "linear", None])
def test_the_schedule_is_followed_from_its_peak_and_groups_keep_their_ratio(schedule):
    training = make(groups=True)
    recorder = Recorder(training.optimizer)
    with prober_of(training, recorder) as prober:
        recorder.calls.clear()
        tried = prober.confirm(0.1, STEPS, schedule)
        lrs = [call["lrs"] for call in recorder.taken(True)]
        before = prober.before
    expected = [0.1 * schedule_shape(schedule, step, STEPS) for step in range(STEPS)]
    assert [high for _, high in lrs] == pytest.approx(expected)
    assert [low for low, _ in lrs] == pytest.approx([lr * 5e-4 / 0.02 for lr in expected])
    assert (tried.lr, tried.steps, tried.before, tried.scored_on) == (0.1, STEPS, before, "data")


def test_a_training_is_as_one_by_hand():
    training, again = make(dropout=0.0), make(dropout=0.0)
    recorder = Recorder()
    with prober_of(training, recorder) as prober:
        scored = [training_batch(training, call) for call in recorder.taken(False)]
        after = prober.train(0.05, STEPS)
        settling = [training_batch(training, call) for call in recorder.settling()]
        again.data = [training_batch(training, call) for call in recorder.taken(True)]
    assert len(settling) == SETTLING
    trainings.train(again, STEPS, lambda step: [0.05])
    trainings.settle(again, settling)
    again.model.eval()
    with torch.no_grad():
        by_hand = sum(again.loss(batch).item() for batch in scored) / len(scored)
    assert after == pytest.approx(by_hand, rel=1e-6)  # float32, and statistics summed in another order


def training_batch(training: Training, call: dict[str, Any]) -> tuple[Any, Any]:
    """The recorded samples with their classes."""
    inputs, classes = training.data.dataset.tensors
    of_sample = {tuple(row): target for row, target in zip(inputs.tolist(), classes, strict=True)}
    return torch.tensor(call["samples"]), torch.stack([of_sample[sample] for sample in call["samples"]])


# Blow-up ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lr", [1e3, 1e30])
def test_a_training_that_blows_up_ends_at_once_and_counts_as_infinite(lr):
    training, recorder = make(), Recorder()
    with prober_of(training, recorder) as prober:
        recorder.calls.clear()
        assert prober.train(lr, STEPS) == math.inf
        assert prober.spent.steps == len(recorder.taken(True)) < STEPS
        assert prober.spent.forwards == SETTLING + 1  # scored before, and neither settled nor scored after
        tried = prober.confirm(lr, STEPS, "constant")
    assert (tried.after, tried.passed) == (math.inf, False)


def test_a_score_that_is_not_finite_counts_as_infinite():
    training, calls = make(), []

    def loss(model: Any, batch: Any) -> Any:
        calls.append(1)
        value = nn.functional.cross_entropy(model(batch[0]), batch[1])
        return value if len(calls) <= SETTLING + 1 + STEPS else value * math.nan

    with prober_of(training, loss) as prober:
        assert math.isfinite(prober.before)
        assert prober.train(0.01, STEPS) == math.inf


calm = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20)
scores = st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf])


@given(losses=calm, bad=st.sampled_from([math.nan, math.inf, -math.inf]), before=scores)
def test_a_loss_that_is_not_finite_ends_a_training_at_any_step(losses, bad, before):
    assert blown_up([*losses, bad], before)


@given(start=st.floats(-1e6, 1e6), falls=st.lists(st.floats(0, 1e6), min_size=1, max_size=20), before=scores)
def test_a_loss_that_never_rises_above_its_start_never_ends_it(start, falls, before):
    assert not blown_up([start, *(start - fall for fall in falls)], before)


@given(start=st.floats(0.01, 100), steps=st.integers(CALM, 20), easier=st.floats(0, 1), by=st.sampled_from(["loss", "score"]))
def test_the_running_median_ends_it_beyond_so_many_times_the_higher_start(start, steps, easier, by):
    first, before = (start, easier * start) if by == "loss" else (easier * start, start)
    above, below = (start * CONSTANTS.blow_up * factor for factor in (1.001, 0.999))
    level = [first, *[start] * (steps - WINDOW + 1)]
    assert blown_up([*level, *[above] * (WINDOW - 1)], before)  # two of the last three
    assert not blown_up([*level, *[below] * (WINDOW - 1)], before)
    assert not blown_up([*level, *[start] * (WINDOW - 2), above], before)  # one unlucky batch


@given(losses=calm, before=scores)
def test_the_score_before_only_ever_lets_a_training_go_on(losses, before):
    assert blown_up(losses, math.nan) or not blown_up(losses, before)


def test_the_first_steps_never_end_it():
    assert not blown_up([1.0, *[1e9] * (CALM - 1)], 1.0)
    assert blown_up([1.0, *[1e9] * CALM], 1.0)


def heavy_tailed() -> tuple[Training, list[float]]:
    """A linear fit to targets whose scale is drawn from a heavy tail, batch by batch, the easiest first; and the losses of its steps."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.randn(40, generator=generator).mul(0.8).exp().sort().values
    scales = torch.cat([scales[:1], scales[1:][torch.randperm(39, generator=generator)]])
    inputs = torch.randn(40, 16, 3, generator=generator)
    data = list(zip(inputs, scales[:, None, None] * inputs.sum(2, keepdim=True), strict=True))
    model = nn.Linear(3, 1, bias=False)
    nn.init.zeros_(model.weight)
    losses: list[float] = []

    def criterion(output: Any, target: Any) -> Any:
        loss = nn.functional.mse_loss(output, target)
        losses.extend([loss.item()] if torch.is_grad_enabled() else [])
        return loss

    return Training(model, torch.optim.SGD(model.parameters(), lr=1.0), data, criterion), losses


def test_a_heavy_tailed_loss_that_begins_with_an_easy_batch_has_not_blown_up():
    training, losses = heavy_tailed()
    with prober_of(training) as prober:
        after = prober.train(0.01, STEPS)
        usual = list(losses)
        assert prober.train(10.0, STEPS) == math.inf
    assert len(usual) == STEPS
    assert median(usual[CALM - WINDOW + 1 : CALM + 1]) > CONSTANTS.blow_up * usual[0]  # by its first batch it would have
    assert math.isfinite(after)
    assert after < prober.before


# The set ------------------------------------------------------------------------------------------------------------------------


def around(prober: Prober, outcome: Callable[[float], float], offsets: Any = CONSTANTS.offsets, centre: float = -2.0) -> list[Any]:
    """A set of trainings whose scores are made up: a function of log10 of the LR."""
    prober.train = lambda lr, steps, schedule=None: outcome(math.log10(lr))  # type: ignore[method-assign]
    return prober.around(centre, offsets, 20)


SETS = pytest.mark.parametrize("offsets", [CONSTANTS.offsets, CONSTANTS.fine_offsets], ids=["small", "large"])


@SETS
@pytest.mark.parametrize(
    ("best", "low", "high"),
    [(-30.0, CONSTANTS.extensions, 0), (30.0, 0, CONSTANTS.extensions), (None, CONSTANTS.extensions, 0)],
    ids=["far below", "far above", "all blow up"],
)
def test_a_set_is_extended_while_the_best_lies_at_an_end_and_so_often_at_most(offsets, best, low, high):
    with prober_of(make()) as prober:
        found = around(prober, lambda x: math.inf if best is None else abs(x - best), offsets)
    width = offsets[1] - offsets[0]
    expected = [offsets[0] - width * (low - i) for i in range(low)] + [*offsets] + [offsets[-1] + width * (i + 1) for i in range(high)]
    assert [math.log10(run.lr) for run in found] == pytest.approx([-2.0 + offset for offset in expected])
    assert {run.steps for run in found} == {20}


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [(CONSTANTS.fine_offsets, CONSTANTS.fine_offsets), (CONSTANTS.offsets, [*CONSTANTS.offsets, 0.0])],
    ids=["large", "small"],
)
def test_a_set_is_not_extended_once_its_best_lies_inside(offsets, expected):
    with prober_of(make()) as prober:
        found = around(prober, lambda x: abs(x + 2.0 - offsets[1]), offsets)
    assert [math.log10(run.lr) for run in found] == pytest.approx([-2.0 + offset for offset in expected])


@pytest.fixture(scope="module")
def one_prober() -> Iterator[Prober]:
    with prober_of(make()) as prober:
        yield prober


@given(data=st.data(), offsets=st.sampled_from([CONSTANTS.offsets, CONSTANTS.fine_offsets]))
def test_whatever_comes_out_a_set_is_in_order_and_ends_with_an_inner_best_or_all_extensions(one_prober, data, offsets):
    scores = data.draw(st.lists(st.floats(0, 9) | st.just(math.inf), min_size=len(offsets) + 2, max_size=len(offsets) + 2))
    made = iter(scores)
    found = around(one_prober, lambda x: next(made), offsets)
    assert sorted(found, key=lambda run: run.lr) == found
    assert len({run.lr for run in found}) == len(found)
    extra = len(found) - len(offsets)
    assert 0 <= extra <= CONSTANTS.extensions
    best = min(found, key=lambda run: run.after)
    assert extra == CONSTANTS.extensions or found[0] is not best is not found[-1]


def test_the_summary_says_what_was_scored_on():
    with prober_of(make()) as prober:
        runs = prober.around(-2.0, CONSTANTS.offsets, STEPS)
        found = prober.summary(runs)
        assert (found.before, found.runs) == (prober.before, tuple(runs))
    assert (found.scored_on, found.scored) == ("data", 16)
    assert found.share == 19 / 96
    assert min(run.after for run in runs) < found.before


# Scoring ------------------------------------------------------------------------------------------------------------------------


def test_scoring_is_in_eval_mode_without_gradients_and_flags_come_back():
    training, recorder = make(), Recorder()
    training.model[1].eval()  # a frozen BatchNorm
    flags = [module.training for module in training.model.modules()]
    with prober_of(training, recorder) as prober:
        prober.train(0.01, STEPS)
        calls = recorder.calls
        assert [module.training for module in training.model.modules()] == flags
    assert {tuple(call["modes"]) for call in calls if not call["gradients"]} == {(False,) * len(flags)}
    assert {tuple(call["modes"]) for call in calls if call["gradients"]} == {tuple(flags)}
    assert sum(not call["gradients"] for call in calls) == 2


def test_before_and_after_are_scored_with_the_same_random_numbers_that_training_does_not_miss():
    """A loss that is random itself, in eval mode too."""
    training, drawn = make(), []

    def loss(model: Any, batch: Any) -> Any:
        noise = torch.rand(())
        if not model.training:
            drawn.append(noise.item())
        return nn.functional.cross_entropy(model(batch[0]), batch[1]) + noise

    with prober_of(training, loss) as prober:
        state = torch.random.get_rng_state()
        again = prober._score()
        assert torch.equal(torch.random.get_rng_state(), state)
        prober.train(0.01, 3)
        assert prober.before == again
    assert len(drawn) == 3
    assert len(set(drawn)) == 1


def test_scores_are_those_of_running_statistics_that_have_settled():
    """Untouched ones (mean 0, variance 1) would make any training look like a gain, one at LR zero too."""
    with prober_of(make()) as prober:
        assert prober.before == pytest.approx(prober.train(1e-12, 2 * SETTLING), rel=0.02)
        assert prober.before == pytest.approx(prober.train(1e-12, 1), rel=0.02)
        prober.snapshot.restore()
        assert prober._score() > 1.01 * prober.before
    training = make()
    training.model[1].eval()
    with prober_of(training) as prober:
        assert prober.spent.forwards == 1
        assert prober.before == pytest.approx(prober.train(1e-12, 5), rel=1e-6)
        assert prober.spent.forwards == 2


@pytest.mark.parametrize("momentum", [0.1, 0.001, None])
def test_a_score_is_that_of_the_last_weights_however_slowly_batch_norm_forgets(momentum):
    """Beside those of all samples at once, which the score is near, and those of an ordinary loop at the same LR, which are behind."""
    training, again, recorder = make(dropout=0.0), make(dropout=0.0), Recorder()
    training.model[1].momentum = again.model[1].momentum = momentum
    with prober_of(training, recorder) as prober:
        scored = [training_batch(training, call) for call in recorder.taken(False)]
        after = prober.train(0.2, STEPS)
        again.data = [training_batch(training, call) for call in recorder.taken(True)]
    assert training.model[1].momentum == momentum
    trainings.train(again, STEPS, lambda step: [0.2])

    def score() -> float:
        again.model.eval()
        with torch.no_grad():
            return sum(again.loss(batch).item() for batch in scored) / len(scored)

    behind = score()
    again.model.train()
    again.model[1].momentum = 1.0
    with torch.no_grad():
        again.model(trainings.points()[0])
    exact = score()
    assert abs(after - exact) < abs(behind - exact) / 2


def test_statistics_that_see_nothing_stay_as_they_are():
    """A momentum of zero, a layer that is out of use; and one kind of norm does not count what it sees, nor one with its own forward."""
    training = make()
    norm, spare = training.model[1], nn.BatchNorm1d(3)
    training.model = nn.Sequential(training.model, nn.Unflatten(1, (1, 3)), nn.InstanceNorm1d(1, track_running_stats=True), nn.Flatten())
    training.model[0][0].spare = spare
    norm.momentum = 0.0
    spare.num_batches_tracked.fill_(7)
    own = Uncounted(1)
    training.model.append(nn.Unflatten(1, (1, 3))).append(own).append(nn.Flatten())
    for value in (norm.running_mean, norm.running_var, spare.running_mean, spare.running_var):
        value.fill_(0.5)
    problem = Problem(training.model, training.optimizer, training.data, training.criterion)
    assert settle(problem, problem.batches) == SETTLING
    for value in (norm.running_mean, norm.running_var, spare.running_mean, spare.running_var):
        assert torch.equal(value, torch.full_like(value, 0.5))
    assert training.model[2].running_mean.abs() > 1e-3
    assert spare.num_batches_tracked == 7
    assert own.running_var != 1.0


class Uncounted(nn.BatchNorm1d):
    """Takes the statistics in, and counts no batch."""

    def forward(self, signals: Tensor) -> Tensor:
        return nn.functional.batch_norm(signals, self.running_mean, self.running_var, training=True, momentum=0.1)


def test_flags_come_back_after_an_error_too():
    model = make().model
    model[3].eval()

    def fail() -> None:
        with evaluating([model]):
            assert not any(module.training for module in model.modules())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [module.training for module in model] == [True, True, True, False, True]


def test_every_step_and_every_scored_batch_is_counted():
    training, recorder = make(), Recorder()
    training.data = trainings.batches(4)  # 24 batches, five of them scored
    with prober_of(training, recorder) as prober:
        scored = len(prober.aside.scored)
        assert (prober.spent.steps, prober.spent.forwards) == (0, SETTLING + scored)
        prober.around(-2.0, CONSTANTS.offsets, 7)
        prober.confirm(0.01, 5, "onecycle")
        calls = recorder.calls
        spent = prober.spent
    assert scored == 5
    assert spent.steps == sum(call["gradients"] for call in calls)
    assert spent.forwards == sum(not call["gradients"] for call in calls)
    assert spent.products == 0
