"""The range test is an ordinary training loop at a rising LR, and leaves no trace."""

from __future__ import annotations

import math
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import trainings
from oracles import assert_untouched, fingerprint
from torch import nn
from torch.utils.data import DataLoader, IterableDataset
from trainings import ADAM, ADAMW, RMSPROP, SGD, Training, make

from hessian.errors import NoSuggestionError
from lrfinder import range_test

RANGE = {"start_lr": 1e-5, "end_lr": 1.0, "num_iter": 40, "progress": False}


def watched(training: Training, **changes: Any) -> Any:
    """A range test, and the check that it left no trace."""
    before = fingerprint(training.model, training.optimizer, [training.data])
    try:
        return range_test(**{**training.arguments, **RANGE, **changes})
    finally:
        assert_untouched(before, fingerprint(training.model, training.optimizer, [training.data]))


class CallCounter:
    """A criterion that does something else at one of its calls. The first call is the check before the sweep."""

    def __init__(self, at: int, do: Any) -> None:
        self.at, self.do, self.calls = at, do, 0

    def __call__(self, output: Any, target: Any) -> Any:
        self.calls += 1
        loss = nn.functional.cross_entropy(output, target)
        return self.do(loss) if self.calls == self.at else loss


def throw(error: BaseException) -> Any:
    def do(loss: Any) -> Any:
        raise error

    return do


# The loop -----------------------------------------------------------------------------------------------------------------------


def tensor_lr(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=torch.tensor(0.02), momentum=0.9)


@pytest.mark.parametrize("optimizer", [SGD, ADAM, ADAMW, RMSPROP, tensor_lr], ids=["sgd", "adam", "adamw", "rmsprop", "tensor lr"])
@pytest.mark.parametrize("seed", [0, 3])
def test_losses_are_those_of_a_loop_written_by_hand(optimizer, seed):
    """Bit for bit: the same batches in the same order (three and a half passes), the same dropout masks, the same updates."""
    curve = watched(make(optimizer), seed=seed)
    mine = make(optimizer)
    grid = np.geomspace(1e-5, 1.0, 40)
    trainings.seed_by_hand(seed, mine.data)
    wrapped = (lambda lr: torch.tensor(lr, dtype=torch.float32)) if optimizer is tensor_lr else float
    losses = trainings.train(mine, 40, lambda step: [wrapped(grid[step])])
    assert curve.losses.tolist() == losses[: len(curve.losses)]
    assert curve.lrs.tolist() == grid[: len(curve.lrs)].tolist()
    assert len(curve.lrs) > 30


def warmed_up(training: Training) -> Training:
    """At step 0 of a warm-up: every ``lr`` is 0.0, the base LR stands in ``initial_lr``."""
    torch.optim.lr_scheduler.LambdaLR(training.optimizer, lambda step: step / 10)
    assert [group["lr"] for group in training.optimizer.param_groups] == [0.0, 0.0]
    return training


@pytest.mark.parametrize("warm_up", [False, True])
def test_param_groups_keep_the_ratio_of_their_base_lrs(warm_up):
    made = make(ADAMW, groups=True)  # base LRs 5e-4 and 1e-3
    training = warmed_up(made) if warm_up else made
    seen = []
    training.optimizer.register_step_pre_hook(lambda opt, args, kwargs: seen.append([group["lr"] for group in opt.param_groups]))
    curve = watched(training)
    assert seen == [[lr * 0.5, lr] for lr in curve.lrs[: len(seen)]]
    mine = make(ADAMW, groups=True)
    trainings.seed_by_hand(0, mine.data)
    assert curve.losses.tolist() == trainings.train(mine, len(curve.lrs), lambda step: [curve.lrs[step] * 0.5, curve.lrs[step]])


def test_a_tensor_lr_is_filled_and_filled_back():
    training = make(tensor_lr)
    lr = training.optimizer.param_groups[0]["lr"]
    seen = []
    training.optimizer.register_step_pre_hook(lambda opt, args, kwargs: seen.append(id(opt.param_groups[0]["lr"])))
    watched(training)
    assert set(seen) == {id(lr)}
    assert training.optimizer.param_groups[0]["lr"] is lr
    assert float(lr) == pytest.approx(0.02)


def test_linear_mode_takes_equal_steps():
    curve = watched(make(), mode="linear", start_lr=0.01, end_lr=0.4)
    assert curve.mode == "linear"
    assert curve.lrs.tolist() == np.linspace(0.01, 0.4, 40)[: len(curve.lrs)].tolist()


def test_the_curve_says_under_which_circumstances_it_was_recorded():
    curve = watched(make(groups=True), seed=4, stop_factor=5.0, smoothing=0.1)
    said = (curve.mode, curve.start_lr, curve.end_lr, curve.num_iter, curve.stop_factor, curve.smoothing, curve.seed)
    assert said == ("exponential", 1e-5, 1.0, 40, 5.0, 0.1, 4)
    assert (curve.batch_size, curve.samples, curve.model) == (8, 96, "Sequential")
    assert curve.optimizer == "SGD(momentum=0.9) in 2 groups"


@pytest.mark.parametrize("optimizer", [SGD, ADAM])
def test_a_training_under_way_is_swept_from_where_it_stands(optimizer):
    training, mine = make(optimizer), make(optimizer)
    for one in (training, mine):
        trainings.seed_by_hand(7, one.data)
        trainings.train(one, 5)
    curve = watched(training)
    trainings.seed_by_hand(0, mine.data)
    grid = np.geomspace(1e-5, 1.0, 40)
    assert curve.losses.tolist() == trainings.train(mine, len(curve.losses), lambda step: [float(grid[step])])


def test_the_seed_alone_decides():
    first = watched(make(), seed=1)
    torch.default_generator.manual_seed(77)
    np.random.seed(77)
    random.seed(77)
    training = make()
    training.data.generator.manual_seed(77)
    assert watched(training, seed=1) == first
    assert watched(make(), seed=2).losses[0] != first.losses[0]


# Data ---------------------------------------------------------------------------------------------------------------------------


class Counted:
    """Batches that note which of them are read."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches, self.note = batches, [].append  # to a list that is no attribute: preserve would put that back

    @property
    def read(self) -> list[int]:
        return self.note.__self__

    def __iter__(self) -> Any:
        for index, batch in enumerate(self.batches):
            self.note(index)
            yield batch


def test_data_shorter_than_the_sweep_are_read_again_and_again():
    training = make()
    training.data = Counted(trainings.batches(32))
    curve = watched(training)
    assert training.data.read == [0, *[step % 3 for step in range(len(curve.lrs))]]  # the first is the check before the sweep
    assert len(curve.lrs) > 30
    assert curve.samples is None


def test_the_samples_of_a_list_are_counted():
    training = make()
    training.data = trainings.batches(40)  # 40, 40 and 16
    assert watched(training).samples == 96


def test_a_function_is_asked_for_every_batch():
    batches = trainings.batches()
    calls = []

    def draw() -> Any:
        calls.append(None)
        return batches[len(calls) % len(batches)]

    training = make()
    training.data = draw
    curve = watched(training, end_lr=1e-3)
    assert (curve.status, len(calls)) == ("completed", 41)
    assert curve.samples is None


def test_a_function_that_has_no_more_ends_the_sweep():
    source = iter(trainings.batches())
    training = make()
    training.data = lambda: next(source)
    curve = watched(training)
    assert (curve.status, len(curve.lrs)) == ("data_ended", 11)  # of 12 batches, one went to the check
    assert curve.break_lr is None


def test_a_stream_that_can_be_read_once_ends_the_sweep():
    class OneShot(IterableDataset):
        source = iter(list(zip(*trainings.points(), strict=True)))

        def __iter__(self) -> Any:
            return self.source

    training = make()
    training.data = DataLoader(OneShot(), batch_size=8)
    curve = watched(training)
    assert (curve.status, len(curve.lrs)) == ("data_ended", 11)
    assert curve.samples is None


# Ends ---------------------------------------------------------------------------------------------------------------------------


def test_completed():
    curve = watched(make(), end_lr=1e-3)
    assert (curve.status, len(curve.lrs), curve.break_lr) == ("completed", 40, None)


def test_diverged():
    curve = watched(make(), end_lr=1e4)
    assert curve.status == "diverged"
    assert curve.break_lr == curve.lrs[-1] < 1e4
    assert len(curve.lrs) < 40
    assert curve.losses[-1] > 4 * curve.smooth.min()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_sweep_and_moves_nothing(bad):
    training = make()
    training.criterion = CallCounter(at=36, do=lambda loss: loss * bad)
    updates = []
    training.optimizer.register_step_post_hook(lambda *args: updates.append(None))
    curve = watched(training)
    assert (curve.status, len(curve.lrs), len(updates)) == ("nonfinite", 35, 34)
    assert np.isfinite(curve.losses[:-1]).all()
    assert not math.isfinite(curve.losses[-1])
    assert curve.break_lr == curve.lrs[-1]
    assert curve.suggest() <= curve.lrs[-2]


def test_a_sweep_that_breaks_early_carries_no_suggestion():
    training = make()
    training.criterion = CallCounter(at=6, do=lambda loss: loss * math.nan)
    curve = watched(training)
    assert (curve.status, curve.clean) == ("nonfinite", 4)
    with pytest.raises(NoSuggestionError, match="only 4 finite points"):
        curve.suggest()


@pytest.mark.parametrize("steps", [0, 1, 17])
def test_ctrl_c_gives_what_was_recorded(steps):
    training = make()
    training.criterion = CallCounter(at=steps + 2, do=throw(KeyboardInterrupt()))
    curve = watched(training)
    assert (curve.status, len(curve.lrs)) == ("interrupted", steps)
    assert curve.losses.tolist() == watched(make()).losses[:steps].tolist()


def test_ctrl_c_before_the_first_step_is_a_ctrl_c():
    training = make()
    training.criterion = CallCounter(at=1, do=throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        watched(training)


class Closed(ValueError):
    """Takes no attributes of others."""

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("__"):
            raise AttributeError(name)
        super().__setattr__(name, value)


@pytest.mark.parametrize("error", [ValueError("mine"), RuntimeError("CUDA out of memory")], ids=repr)
@pytest.mark.parametrize("place", ["loss", "step", "data"])
def test_the_users_own_error_comes_out_as_it_is_and_carries_the_curve(error, place):
    training = make()
    spoil(training, place, throw(error), after=17)
    with pytest.raises(type(error)) as caught:
        watched(training)
    assert caught.value is error
    assert caught.value.curve.status == "interrupted"
    # The loss of a step is recorded after its update, so an error of the update loses that loss too.
    assert caught.value.curve.losses.tolist() == watched(make()).losses[:17].tolist()


def test_even_a_stop_iteration_comes_out_where_it_is_an_error():
    """Contexts and generators on its way would take it for their own end."""
    training, error = make(), StopIteration("mine")
    spoil(training, "loss", throw(error), after=17)
    with pytest.raises(StopIteration) as caught:
        watched(training)
    assert caught.value is error
    assert len(caught.value.curve.lrs) == 17


def spoil(training: Training, place: str, do: Any, after: int) -> None:
    """Let ``do`` happen after so many steps of the sweep."""
    if place == "loss":
        training.criterion = CallCounter(at=after + 2, do=do)
    elif place == "step":
        training.optimizer.register_step_pre_hook(every(after + 1, do))
    else:
        training.data.collate_fn = first_then(training.data.collate_fn, every(after + 2, do))


def every(count: int, do: Any) -> Any:
    calls = []

    def hook(*args: Any) -> None:
        calls.append(None)
        if len(calls) == count:
            do(None)

    return hook


def first_then(collate: Any, hook: Any) -> Any:
    def both(samples: Any) -> Any:
        hook()
        return collate(samples)

    return both


def test_an_error_that_takes_no_attributes_still_comes_out():
    training = make()
    error = Closed("mine")
    training.criterion = CallCounter(at=5, do=throw(error))
    with pytest.raises(Closed) as caught:
        watched(training)
    assert caught.value is error


class Unknown:
    """Neither a module nor a container; its repr tells what it holds."""

    def __repr__(self):
        return f"Unknown({vars(self)})"


def test_the_check_for_traces_can_fail():
    """What an attribute leads to is put back where it is the model's own; an object that is not, is not."""
    training = make()
    training.model[1].kept = kept = Unknown()
    training.criterion = CallCounter(at=3, do=lambda loss: vars(kept).update(grown=1) or loss)
    with pytest.raises(AssertionError):
        watched(training)


# The model as it stands ---------------------------------------------------------------------------------------------------------


class Spy:
    """A loss_fn that notes the state of the model at every call."""

    def __init__(self, look: Any) -> None:
        self.look, self.seen = look, []

    def __call__(self, model: Any, batch: Any) -> Any:
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        self.seen.append(self.look(model))
        return loss


@pytest.mark.parametrize("training_mode", [True, False])
def test_the_sweep_keeps_train_or_eval_mode(training_mode):
    training = make()
    training.model.train(training_mode)
    spy = Spy(lambda model: {module.training for module in model.modules()})
    curve = watched(training, criterion=None, loss_fn=spy)
    assert spy.seen == [{training_mode}] * len(spy.seen)
    assert len(spy.seen) == len(curve.lrs) + 1


def test_a_frozen_batch_norm_stays_frozen():
    training = make()
    training.model.train()
    training.model[1].eval()
    mean = training.model[1].running_mean.clone()
    spy = Spy(lambda model: (model[1].training, model.training, torch.equal(model[1].running_mean, mean)))
    watched(training, criterion=None, loss_fn=spy)
    assert set(spy.seen) == {(False, True, True)}


def test_a_batch_norm_in_training_moves_inside_only():
    training = make()
    mean = training.model[1].running_mean.clone()
    spy = Spy(lambda model: torch.equal(model[1].running_mean, mean))
    watched(training, criterion=None, loss_fn=spy)
    assert not any(spy.seen)
    assert torch.equal(training.model[1].running_mean, mean)


def test_the_check_before_the_sweep_leaves_no_trace_on_it():
    spy = Spy(lambda model: int(model[1].num_batches_tracked))
    curve = watched(make(), criterion=None, loss_fn=spy)
    assert spy.seen == [1, *range(1, len(curve.lrs) + 1)]


class Wrapped(nn.Module):
    """As models of the transformers library: named arguments in, an output with a loss out."""

    def __init__(self, net: nn.Module, kind: Any) -> None:
        super().__init__()
        self.net, self.kind = net, kind

    def forward(self, inputs: Any, labels: Any) -> Any:
        return self.kind(loss=nn.functional.cross_entropy(self.net(inputs), labels))


def test_the_three_ways_to_give_a_loss_are_one():
    expected = watched(make())
    assert watched(make(), criterion=None, loss_fn=Spy(lambda model: None)) == expected
    for kind in (dict, SimpleNamespace):
        training = make()
        model = Wrapped(training.model, kind)
        collate = training.data.collate_fn
        training.data.collate_fn = lambda samples, collate=collate: dict(zip(("inputs", "labels"), collate(samples), strict=True))
        curve = watched(training, model=model, criterion=None)
        assert curve.losses.tolist() == expected.losses.tolist()
        assert curve.batch_size == 8
        assert curve.model == "Wrapped"


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_the_callers_grad_mode_does_not_matter(context):
    expected = watched(make())
    training = make()
    with context():
        assert watched(training) == expected
        assert not torch.is_grad_enabled()


class Tempered(nn.Module):
    """A criterion with a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.zeros(()))

    def forward(self, output: Any, target: Any) -> Any:
        return nn.functional.cross_entropy(output * self.log_temperature.exp(), target)


def test_a_criterion_that_learns_is_swept_along_and_put_back():
    training = make()
    training.criterion = Tempered()
    training.optimizer.add_param_group({"params": training.criterion.parameters()})
    seen = []
    training.optimizer.register_step_post_hook(lambda *args: seen.append(training.criterion.log_temperature.item()))
    before = fingerprint(training.criterion)
    watched(training)
    assert_untouched(before, fingerprint(training.criterion))
    assert len(set(seen)) > 30
    assert training.criterion.log_temperature.item() == 0.0


# Progress -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (False, False), (None, False)])
def test_a_bar_is_shown_on_stderr_where_someone_watches(capfd, progress, shown):
    range_test(**{**make().arguments, **RANGE, "progress": progress})
    out, err = capfd.readouterr()
    assert out == ""
    assert ("range test" in err) == shown
