"""Validation loss and metric of a sweep are those of a loop written by hand, and the training in between does not notice them."""

from __future__ import annotations

import math
import random
from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import trainings
from oracles import assert_untouched, fingerprint
from torch import nn
from trainings import ADAMW, SGD, Training, make

from hessian.errors import BadArgument, BadType
from lrfinder import range_test
from lrfinder.scoring import SETTLING

RANGE = {"start_lr": 1e-5, "end_lr": 1.0, "num_iter": 40, "progress": False}
GRID = np.geomspace(1e-5, 1.0, 40)


def held_out(size: int = 10, count: int = 45) -> list[Any]:
    """Other points, in uneven batches."""
    inputs, classes = trainings.points(count, seed=3)
    return list(zip(inputs.split(size), classes.split(size), strict=True))


def watched(training: Training, **changes: Any) -> Any:
    """A range test, and the check that it left no trace."""
    before = fingerprint(training.model, training.optimizer, [training.data])
    try:
        return range_test(**{**training.arguments, **RANGE, **changes})
    finally:
        assert_untouched(before, fingerprint(training.model, training.optimizer, [training.data]))


class Noisy(nn.Module):
    """Draws random numbers of all three kinds, in eval mode too."""

    def forward(self, x: Any) -> Any:
        return x * (1 + 0.01 * torch.randn(())) + 0.01 * np.random.standard_normal() + 0.01 * random.random()


def noisy(training: Training) -> Training:
    training.model.append(Noisy())
    return training


class ByHand:
    """What is scored after every step of a loop that knows nothing of the package."""

    def __init__(self, training: Training, seed: int, score: Any) -> None:
        self.training, self.seed, self.score, self.seen = training, seed, score, []

    def __call__(self, batch: Any) -> None:
        states = torch.get_rng_state(), np.random.get_state(), random.getstate()
        self.training.model.eval()
        trainings.seed_by_hand(self.seed, None)
        with torch.no_grad():
            self.seen.append(self.score(batch))
        self.training.model.train()
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])

    def run(self, steps: int) -> list[float]:
        """The losses of the batches; the scores are in ``seen``."""
        trainings.seed_by_hand(self.seed, self.training.data)
        trainings.settle(self.training, islice(trainings.forever(self.training.data), SETTLING))
        trainings.seed_by_hand(self.seed, self.training.data)
        return trainings.train(self.training, steps, lambda step: [float(GRID[step])], self)


def mean_loss(training: Training, batches: list[Any]) -> float:
    """Over the samples."""
    losses = [len(batch[1]) * training.loss(batch).item() for batch in batches]
    return sum(losses) / sum(len(batch[1]) for batch in batches)


def right(training: Training, batch: Any) -> int:
    return int((training.model(batch[0]).argmax(dim=1) == batch[1]).sum())


# val_data -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=["sgd", "adamw"])
@pytest.mark.parametrize("seed", [0, 3])
def test_the_curve_records_what_the_held_out_batches_cost_after_each_step(optimizer, seed):
    curve = watched(noisy(make(optimizer)), val_data=held_out(), seed=seed)
    mine = noisy(make(optimizer))
    hand = ByHand(mine, seed, lambda batch: mean_loss(mine, held_out()))
    hand.run(len(curve.lrs))
    assert curve.losses.tolist() == pytest.approx(hand.seen, rel=1e-6)  # float32, and statistics summed in another order
    assert (curve.scored_on, len(curve.metric), curve.metric_name) == ("val_data", 0, "")
    assert len(curve.lrs) > 25
    assert "; loss on val_data " in " ".join(str(curve).split())


def test_without_val_data_the_curve_says_that_it_holds_losses_of_batches():
    curve = watched(make())
    assert curve.scored_on == "batch"
    assert "val_data" not in str(curve)


def test_the_stop_rule_sees_the_held_out_loss():
    """Held-out samples of shuffled classes get worse while those trained on get better."""
    inputs, classes = trainings.points()
    wrong = [(inputs, (classes + 1) % 3)]
    curve = watched(make(), val_data=wrong, stop_factor=1.5)
    assert curve.status == "diverged"
    assert curve.losses[-1] > 1.2 * curve.losses[0]
    assert watched(make(), stop_factor=1.5).losses[: len(curve.lrs)].max() < curve.losses[-1]


@pytest.mark.parametrize(("size", "used"), [(8, 8), (40, 4), (200, 1)])
def test_the_first_few_batches_are_scored(size, used):
    calls = []

    def loss_fn(model: Any, batch: Any) -> Any:
        calls.append((len(batch[0]), model.training))
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    training = make()
    curve = range_test(
        training.model, training.optimizer, training.data, loss_fn=loss_fn, val_data=held_out(size, 12 * size), **{**RANGE, "num_iter": 5}
    )
    scored = [rows for rows, training_mode in calls if not training_mode]
    assert scored == [size] * (1 + used * len(curve.lrs))  # one for the check before the sweep


def test_the_scores_before_anything_is_learned_do_not_move_while_batch_norm_settles():
    training = make(dropout=0.0)
    with torch.no_grad():
        training.model[0].weight *= 10
    curve = watched(training, val_data=held_out(), start_lr=1e-9, end_lr=1e-8, num_iter=30)
    assert np.ptp(curve.losses) < 0.1 * curve.losses[0]
    training.model.eval()  # with statistics that saw nothing
    assert mean_loss(training, held_out()) > 2 * curve.losses[0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_batch_whose_loss_is_not_finite_ends_the_sweep(bad):
    training, calls = make(), []

    def criterion(output: Any, target: Any) -> Any:
        calls.append(training.model.training)
        loss = nn.functional.cross_entropy(output, target)
        return loss * bad if sum(calls) == SETTLING + 1 + 6 else loss

    training.criterion = criterion
    curve = watched(training, val_data=held_out(), metric="accuracy")
    assert (curve.status, len(curve.lrs)) == ("nonfinite", 6)
    assert np.isfinite(curve.losses[:-1]).all()
    assert np.isfinite(curve.metric[:-1]).all()
    assert math.isnan(curve.metric[-1])


# metric -------------------------------------------------------------------------------------------------------------------------


def test_accuracy_is_that_of_the_held_out_samples_after_each_step():
    curve = watched(noisy(make()), val_data=held_out(), metric="accuracy")
    mine = noisy(make())
    hand = ByHand(mine, 0, lambda batch: sum(right(mine, held) for held in held_out()) / 45)
    hand.run(len(curve.lrs))
    assert curve.metric == pytest.approx(hand.seen, abs=1e-12)
    assert curve.metric_name == "accuracy"
    assert curve.metric.max() > 0.8


def test_accuracy_without_val_data_is_that_of_the_steps_own_batch_after_it():
    curve = watched(noisy(make()), metric="accuracy")
    mine = noisy(make())
    hand = ByHand(mine, 0, lambda batch: right(mine, batch) / len(batch[0]))
    losses = hand.run(len(curve.lrs))
    assert curve.metric.tolist() == hand.seen
    assert curve.losses.tolist() == losses


@pytest.mark.parametrize("scored", [{}, {"val_data": held_out()}], ids=["batch", "val_data"])
def test_measuring_does_not_disturb_the_training(scored):
    """The steps are those of a plain sweep, whatever a metric does with generators, flags and gradients."""

    def careless(model: Any, batch: Any) -> float:
        model.train()
        torch.rand(3)
        np.random.rand(3)
        random.random()
        with torch.enable_grad():
            model(batch[0]).sum().backward()
        return 0.5

    plain = watched(make())
    assert watched(make(), metric=careless).losses.tolist() == plain.losses.tolist()
    weights = []
    for more in ({}, {"metric": careless, **scored}):
        training = make()
        training.optimizer.register_step_post_hook(lambda *args, t=training: weights.append(t.model[0].weight.clone()))
        range_test(**{**training.arguments, **RANGE, "num_iter": 5, **more})
    assert all(torch.equal(weights[step], weights[5 + step]) for step in range(5))


def test_a_function_gets_the_model_in_eval_mode_without_gradients():
    seen = []

    def margin(model: Any, batch: Any) -> Any:
        seen.append((any(module.training for module in model.modules()), torch.is_grad_enabled(), len(batch[0])))
        return model(batch[0]).max()

    curve = watched(make(), metric=margin)
    assert set(seen) == {(False, False, 8)}
    assert len(seen) == len(curve.lrs) + 1
    assert curve.metric_name == "margin"
    assert watched(make(), metric=lambda model, batch: 1).metric_name == "metric"


@pytest.mark.parametrize("form", [float, np.float32, torch.tensor, lambda value: torch.tensor([value])])
def test_every_form_of_one_number_will_do(form):
    assert set(watched(make(), metric=lambda model, batch: form(0.25)).metric.tolist()) == {0.25}


def test_a_metric_that_is_no_number_at_times_is_recorded_as_it_is():
    values = iter([1.0, math.nan, *[0.5] * 100])
    curve = watched(make(), metric=lambda model, batch: next(values))
    assert math.isnan(curve.metric[0])
    assert curve.metric[1] == 0.5
    assert curve.status == "completed"


def test_micro_batches_count_the_same():
    curve = watched(make(), metric=lambda model, batch: float(batch[1][0]), accumulate=5, num_iter=10)
    mine = make()
    trainings.seed_by_hand(0, mine.data)
    first = [float(batch[1][0]) for batch in islice(trainings.forever(mine.data), 48)]  # four passes of 12 batches
    windows = [first[at : at + size] for start in range(0, 48, 12) for at, size in ((start, 5), (start + 5, 5), (start + 10, 2))]
    assert curve.metric == pytest.approx([sum(window) / len(window) for window in windows[:10]])


def test_a_metric_of_low_precision_passes():
    seen = []

    def kind(model: Any, batch: Any) -> float:
        seen.append(model[0](batch[0]).dtype)
        return 0.0

    watched(make(), metric=kind, autocast=torch.bfloat16, num_iter=4)
    assert set(seen) == {torch.bfloat16}


class Hugging(nn.Module):
    """As models of the transformers library: named arguments in, an output with loss and logits out."""

    def __init__(self, net: nn.Module, kind: Any) -> None:
        super().__init__()
        self.net, self.kind = net, kind

    def forward(self, inputs: Any, labels: Any) -> Any:
        logits = self.net(inputs)
        return self.kind(loss=nn.functional.cross_entropy(logits, labels), logits=logits)


@pytest.mark.parametrize("kind", [dict, SimpleNamespace])
def test_accuracy_of_models_that_return_logits(kind):
    expected = watched(make(), metric="accuracy")
    training = make()
    model, collate = Hugging(training.model, kind), training.data.collate_fn
    training.data.collate_fn = lambda samples: dict(zip(("inputs", "labels"), collate(samples), strict=True))
    curve = watched(training, model=model, criterion=None, metric="accuracy")
    assert curve.metric.tolist() == expected.metric.tolist()


def test_the_users_own_step_is_measured_too():
    training = make()

    def step(batch: Any) -> Any:
        training.optimizer.zero_grad()
        loss = training.loss(batch)
        loss.backward()
        training.optimizer.step()
        return loss

    curve = watched(training, criterion=None, step_fn=step, metric="accuracy")
    assert curve.metric.max() > 0.8
    assert curve.losses.tolist() == watched(make()).losses.tolist()
    with pytest.raises(BadArgument, match=r"val_data cannot be scored by step_fn.*pass criterion or loss_fn beside it"):
        watched(training, criterion=None, step_fn=step, val_data=held_out())
    scored = watched(training, step_fn=step, val_data=held_out())
    assert scored.losses.tolist() == watched(make(), val_data=held_out()).losses.tolist()


class Counting(nn.Module):
    """A metric that adds up what it sees, as those of torchmetrics do."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(()))

    def forward(self, model: Any, batch: Any) -> Any:
        self.total += len(batch[0])
        return self.total


def test_a_metric_with_a_state_is_put_back():
    counting = Counting()
    before = fingerprint(counting)
    curve = watched(make(), metric=counting)
    assert curve.metric.tolist() == [8.0 * step for step in range(1, len(curve.lrs) + 1)]
    assert_untouched(before, fingerprint(counting))
    assert curve.metric_name == "Counting"


# Whatever goes wrong ------------------------------------------------------------------------------------------------------------


def failing(after: int, error: BaseException) -> Any:
    calls = []

    def metric(model: Any, batch: Any) -> float:
        calls.append(None)
        if len(calls) == after + 2:  # the first call is the check before the sweep
            raise error
        return 0.5

    return metric


@pytest.mark.parametrize("scored", [{}, {"val_data": held_out(200, 200)}], ids=["batch", "val_data"])
@pytest.mark.parametrize("after", [0, 7])
def test_an_error_of_the_metric_carries_the_steps_before(after, scored):
    error = ZeroDivisionError("mine")
    with pytest.raises(ZeroDivisionError) as caught:
        watched(make(), metric=failing(after, error), **scored)
    assert caught.value is error
    assert (len(error.curve.losses), len(error.curve.metric)) == (after, after)


def test_an_error_of_the_held_out_loss_carries_the_steps_before():
    training, error = make(), ZeroDivisionError("mine")

    def loss_fn(model: Any, batch: Any) -> Any:
        if not model.training:
            fail(model, batch)
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    fail = failing(7, error)
    with pytest.raises(ZeroDivisionError):
        watched(training, criterion=None, loss_fn=loss_fn, val_data=held_out(200, 200))
    assert len(error.curve.losses) == 7


@pytest.mark.parametrize("after", [0, 7])
def test_ctrl_c_in_the_metric_gives_what_was_recorded(after):
    curve = watched(make(), metric=failing(after, KeyboardInterrupt()))
    assert (curve.status, len(curve.lrs), len(curve.metric)) == ("interrupted", after, after)


def test_held_out_data_and_their_loader_are_put_back():
    training, val = make(), make().data
    before = fingerprint(training.model, training.optimizer, [training.data, val])
    range_test(**training.arguments, **RANGE, val_data=val, metric="accuracy")
    assert_untouched(before, fingerprint(training.model, training.optimizer, [training.data, val]))


# Bad metrics --------------------------------------------------------------------------------------------------------------------


def regression() -> Training:
    training = make()
    training.criterion = lambda output, target: (output[:, 0] - target.float()).square().mean()
    training.data = [(inputs, classes.float()) for inputs, classes in trainings.batches()]
    return training


@pytest.mark.parametrize(
    ("training", "changes", "error", "words"),
    [
        (make, {"metric": lambda model, batch: "good"}, BadType, "metric returned a str, not one number; pass the metric of this step"),
        (make, {"metric": lambda model, batch: None}, BadType, "metric returned a NoneType, not one number"),
        (make, {"metric": lambda model, batch: torch.ones(2)}, BadArgument, r"a tensor of shape \(2,\), not one number; .*metric.mean\(\)"),
        (regression, {"metric": "accuracy"}, BadArgument, r"whole number for each sample, but .* target is float32 of shape \(8,\); pass"),
        (
            make,
            {"metric": "accuracy", "criterion": lambda out, y: out.mean() * 0 + 1, "val_data": [(torch.ones(4, 6), torch.zeros(4, 2))]},
            BadArgument,
            r"the target is float32 of shape \(4, 2\)",
        ),
    ],
    ids=["text", "nothing", "two numbers", "regression", "val_data of another kind"],
)
def test_what_cannot_be_measured_is_said_before_anything_moves(training, changes, error, words):
    made, updates = training(), []
    made.optimizer.register_step_post_hook(lambda *args: updates.append(None))
    with pytest.raises(error, match=words) as caught:
        watched(made, **changes)
    assert updates == []
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("batch", "error", "words"),
    [
        ({"inputs": 1}, BadArgument, "needs the key 'labels' in the batch, which has inputs"),
        (torch.ones(3), BadType, "a batch is a Tensor"),
        ((torch.ones(3),), BadType, "a batch is a tuple"),
    ],
)
def test_batches_that_tell_no_classes_are_refused(batch, error, words):
    from lrfinder.metrics import accuracy

    with pytest.raises(error, match=words):
        accuracy(nn.Identity(), batch)
