"""LRSweep around real training steps: the curve is theirs, and nothing of them is left."""

from __future__ import annotations

import math
import signal
from typing import Any

import numpy as np
import pytest
import torch
import trainings
from oracles import assert_untouched, fingerprint
from pytorch_optimizer import SAM
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from trainings import ADAM, ADAMW, SGD, Training, make, step_of

from hessian.errors import BadArgument, BadType, NoSuggestionError
from lrfinder import LRCurve, LRSweep, range_test

RANGE: Any = {"start_lr": 1e-5, "end_lr": 1.0, "num_iter": 40, "progress": False}


def pictures(models: list[nn.Module], optimizers: list[Any], loaders: list[Any]) -> dict[str, str]:
    """Fingerprints of several models, optimizers and loaders."""
    found = {}
    for index, model in enumerate(models):
        found |= {f"{index} {name}": value for name, value in fingerprint(model, None, loaders).items()}
    for index, optimizer in enumerate(optimizers):
        found |= {f"optimizer {index} {name}": value for name, value in fingerprint(models[0], optimizer).items()}
    return found


def swept(training: Training, step: Any = step_of, **changes: Any) -> LRCurve:
    """A whole sweep, and the check that it left no trace."""
    before = fingerprint(training.model, training.optimizer, [training.data])
    sweep = LRSweep(training.model, training.optimizer, **{**RANGE, **changes})
    try:
        with sweep:
            for batch in sweep(training.data):
                sweep.report(step(training, batch))
    finally:
        assert_untouched(before, fingerprint(training.model, training.optimizer, [training.data]))
    return sweep.curve


# The same as range_test ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end_lr", [1e-3, 1.0, 1e4], ids=["completed", "broken late", "diverged"])
@pytest.mark.parametrize("optimizer", [SGD, ADAM, ADAMW])
def test_an_ordinary_step_gives_the_curve_of_range_test(optimizer, end_lr):
    changes = {"end_lr": end_lr, "seed": 3, "stop_factor": 5.0, "smoothing": 0.1}
    assert swept(make(optimizer, groups=True), **changes) == range_test(**{**make(optimizer, groups=True).arguments, **RANGE, **changes})


def test_linear_mode_and_a_copy_on_the_cpu():
    changes: Any = {"mode": "linear", "start_lr": 0.01, "end_lr": 0.4, "snapshot": "cpu"}
    assert swept(make(), **changes) == range_test(**{**make().arguments, **RANGE, **changes})


def test_a_training_under_way_goes_on_as_if_nothing_had_been():
    losses = []
    for between in (swept, lambda training: None):
        training = make(ADAM)
        trainings.seed_by_hand(7, training.data)
        trainings.train(training, 5)
        between(training)
        losses.append(trainings.train(training, 10))
    assert losses[0] == losses[1]


# Steps that range_test cannot know ----------------------------------------------------------------------------------------------


class Gan:
    """Points on a ring; the generator is to draw them."""

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(2)
            self.generator = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))
            self.critic = nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
            angles = torch.rand(40) * 2 * math.pi
        self.optimizers = [
            torch.optim.Adam(self.generator.parameters(), lr=1e-4, betas=(0.5, 0.999)),
            torch.optim.SGD([{"params": self.critic[0].parameters(), "lr": 1e-4}, {"params": self.critic[1:].parameters()}], lr=4e-4),
        ]
        self.loader = DataLoader(TensorDataset(torch.stack([angles.cos(), angles.sin()], 1)), batch_size=8, shuffle=True)

    @property
    def parts(self) -> Any:
        return [self.generator, self.critic], self.optimizers, [self.loader]

    def step(self, real: torch.Tensor) -> torch.Tensor:
        loss = nn.functional.softplus
        opt_g, opt_d = self.optimizers
        fake = self.generator(torch.randn(len(real), 2))
        opt_d.zero_grad()
        loss_d = loss(-self.critic(real)).mean() + loss(self.critic(fake.detach())).mean()
        loss_d.backward()
        opt_d.step()
        opt_g.zero_grad()
        loss(-self.critic(fake)).mean().backward()
        opt_g.step()
        return loss_d


def test_a_gan_has_two_models_and_two_optimizers():
    gan, lrs = Gan(), []
    before = pictures(*gan.parts)
    with LRSweep([gan.generator, gan.critic], gan.optimizers, **{**RANGE, "end_lr": 0.01}) as sweep:
        for (real,) in sweep(gan.loader):
            lrs.append([group["lr"] for optimizer in gan.optimizers for group in optimizer.param_groups])
            sweep.report(gan.step(real))
    assert_untouched(before, pictures(*gan.parts))
    curve = sweep.curve
    assert (curve.status, len(curve.losses), curve.batch_size, curve.samples) == ("completed", 40, 8, 40)
    assert lrs == [[lr * 0.25, lr * 0.25, lr] for lr in curve.lrs]  # within the second one and between both
    assert len(set(curve.losses)) == 40
    assert curve.model == "Sequential and Sequential"
    assert curve.optimizer == "Adam(betas=(0.5, 0.999)) and SGD in 2 groups"


def closure_of(training: Training, batch: Any) -> Any:
    def closure() -> torch.Tensor:
        training.optimizer.zero_grad()
        loss = training.loss(batch)
        loss.backward()
        return loss

    return closure


def lbfgs(parameters: Any) -> Any:
    return torch.optim.LBFGS(parameters, lr=0.1, max_iter=4)


def test_lbfgs_calls_its_closure():
    curve = swept(make(lbfgs), lambda training, batch: training.optimizer.step(closure_of(training, batch)))
    mine = make(lbfgs)
    trainings.seed_by_hand(0, mine.data)
    losses = []
    for lr, batch in zip(curve.lrs.tolist(), trainings.forever(mine.data), strict=False):
        mine.optimizer.param_groups[0]["lr"] = lr
        losses.append(mine.optimizer.step(closure_of(mine, batch)).item())
    assert curve.losses.tolist() == losses
    assert len(losses) > 10


def test_lbfgs_is_refused_where_the_step_is_ours_and_told_where_it_is_not():
    with pytest.raises(BadArgument, match=r"LBFGS needs a closure .* pass your own step to find_lr or range_test as step_fn"):
        range_test(**make(lbfgs).arguments)


def test_sam_takes_two_gradients_a_step():
    def sam(parameters: Any) -> Any:
        return SAM(parameters, torch.optim.SGD, lr=0.02, momentum=0.9)

    def step(training: Training, batch: Any) -> torch.Tensor:
        closure = closure_of(training, batch)
        loss = closure()
        training.optimizer.step(closure)
        return loss

    curve = swept(make(sam), step)
    assert len(curve.losses) > 30
    assert curve.losses[0] == swept(make()).losses[0]  # the same weights and batch, dropout included
    assert curve.losses[5] != swept(make()).losses[5]


def test_an_optimizer_may_hold_what_no_module_does():
    """The temperature of an actor-critic."""
    training, temperature = make(), torch.zeros((), requires_grad=True)
    other = torch.optim.SGD([temperature], lr=0.01)
    with LRSweep(training.model, [training.optimizer, other], **RANGE) as sweep:
        for inputs, target in sweep(training.data):
            other.zero_grad()
            loss = step_of(Training(training.model, training.optimizer, None, warmed(temperature)), (inputs, target))
            other.step()
            sweep.report(loss)
        moved = temperature.item()
    assert moved != 0.0
    assert temperature.item() == 0.0


def warmed(temperature: torch.Tensor) -> Any:
    return lambda output, target: nn.functional.cross_entropy(output * temperature.exp(), target)


# Data ---------------------------------------------------------------------------------------------------------------------------


def test_data_shorter_than_the_sweep_are_read_again():
    training = make()
    training.data = trainings.batches(32)  # three of them
    seen = []
    curve = swept(training, lambda training, batch: seen.append(batch[0]) or step_of(training, batch))
    assert len(seen) == len(curve.losses) > 30
    assert all(torch.equal(inputs, training.data[index % 3][0]) for index, inputs in enumerate(seen))


def test_without_data_the_steps_get_theirs_themselves():
    training = make()
    source = trainings.forever(trainings.batches())
    before = fingerprint(training.model, training.optimizer)
    with LRSweep(training.model, training.optimizer, **RANGE) as sweep:
        for nothing in sweep():
            assert nothing is None
            sweep.report(step_of(training, next(source)))
    assert_untouched(before, fingerprint(training.model, training.optimizer))
    assert len(sweep.curve.losses) > 30
    assert (sweep.curve.batch_size, sweep.curve.samples) == (None, None)


def test_a_loader_that_the_step_reads_itself_can_be_kept():
    training = make()
    before = fingerprint(training.model, training.optimizer, [training.data])
    with LRSweep(training.model, training.optimizer, keep=[training.data], **RANGE) as sweep:
        source = trainings.forever(training.data)
        for _ in sweep():
            sweep.report(step_of(training, next(source)))
    assert_untouched(before, fingerprint(training.model, training.optimizer, [training.data]))


def test_a_loader_that_was_used_before_the_loop_began_comes_back_as_it_was_at_the_start_of_the_block():
    training = make()
    before = fingerprint(training.model, training.optimizer, [training.data])
    with LRSweep(training.model, training.optimizer, keep=[training.data], **RANGE) as sweep:
        list(training.data)
        assert fingerprint(training.model, training.optimizer, [training.data]) != before
        for batch in sweep(training.data):
            sweep.report(step_of(training, batch))
    assert_untouched(before, fingerprint(training.model, training.optimizer, [training.data]))


def test_a_stream_that_ends_ends_the_sweep():
    class OneShot(IterableDataset):
        source = iter(list(zip(*trainings.points(), strict=True)))

        def __iter__(self) -> Any:
            return self.source

    training = make()
    training.data = DataLoader(OneShot(), batch_size=8)
    curve = swept(training)
    assert (curve.status, len(curve.losses)) == ("data_ended", 12)


# Losses -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [lambda loss: loss, lambda loss: loss.detach().reshape(1, 1), lambda loss: loss.item(), lambda loss: np.float32(loss.item())],
    ids=["with gradient", "one by one", "float", "numpy"],
)
def test_every_form_of_one_number_is_the_same(form):
    assert swept(make(), lambda training, batch: form(step_of(training, batch))) == swept(make())


def test_a_tensor_is_read_once_and_its_graph_let_go(monkeypatch):
    reads, read = [], torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, "item", lambda tensor: reads.append(1) or read(tensor))
    training = make()
    with LRSweep(training.model, training.optimizer, **RANGE) as sweep:
        for batch in sweep(training.data):
            loss = step_of(training, batch)
            reads.clear()
            sweep.report(loss)
            assert len(reads) == 1
    assert all(type(value) is float for value in sweep._steps.losses)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_sweep(bad):
    training, calls = make(), []
    curve = swept(training, lambda training, batch: calls.append(1) or (step_of(training, batch) if len(calls) < 20 else bad))
    assert (curve.status, len(curve.losses)) == ("nonfinite", 20)
    assert curve.break_lr == curve.lrs[-1]


def test_the_curve_is_there_while_it_grows():
    training, lengths = make(), []
    sweep = LRSweep(training.model, training.optimizer, **{**RANGE, "end_lr": 1e-3})
    assert (len(sweep.curve.lrs), sweep.curve.status) == (0, "interrupted")
    with sweep:
        for batch in sweep(training.data):
            sweep.report(step_of(training, batch))
            lengths.append((len(sweep.curve.lrs), sweep.curve.status))
    assert lengths == [*((count, "interrupted") for count in range(1, 40)), (40, "completed")]


def test_who_leaves_the_loop_has_what_was_reported_and_nothing_is_left():
    training = make()
    before = fingerprint(training.model, training.optimizer, [training.data])
    with LRSweep(training.model, training.optimizer, **RANGE) as sweep:
        for batch in sweep(training.data):
            if len(sweep.curve.lrs) == 15:
                break
            sweep.report(step_of(training, batch))
    assert_untouched(before, fingerprint(training.model, training.optimizer, [training.data]))
    assert (sweep.curve.status, len(sweep.curve.lrs)) == ("interrupted", 15)
    assert sweep.curve.losses.tolist() == swept(make()).losses[:15].tolist()


def test_a_sweep_without_a_report_has_a_curve_without_points():
    training = make()
    with LRSweep(training.model, training.optimizer, **RANGE) as sweep:
        for _ in sweep(training.data):
            break
    with pytest.raises(NoSuggestionError, match="only 0 finite points"):
        sweep.curve.suggest()


def test_the_copy_goes_with_the_block():
    """Who keeps the sweep for its curve does not keep a second model."""
    training = make()
    with LRSweep(training.model, training.optimizer, **RANGE) as sweep:
        for _ in sweep(training.data):
            break
    assert not [thing for thing in reached(sweep) if type(thing).__name__ == "Snapshot"]


def reached(thing: Any) -> list[Any]:
    """Attributes, theirs and so on, of objects of ours."""
    found, waiting = [], [thing]
    while waiting:
        value = waiting.pop()
        if not any(value is other for other in found):
            found.append(value)
            ours = type(value).__module__.startswith(("lrfinder", "hessian", "contextlib", "functools"))
            waiting += vars(value).values() if ours and hasattr(value, "__dict__") else []
    return found


# Errors -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), StopIteration("mine"), SystemExit(3)], ids=repr)
@pytest.mark.parametrize("after", [0, 17])
def test_an_error_of_the_step_comes_out_as_it_is_and_carries_the_curve(error, after):
    calls = []

    def step(training: Training, batch: Any) -> Any:
        calls.append(1)
        loss = step_of(training, batch)
        if len(calls) > after:
            raise error
        return loss

    with pytest.raises(type(error)) as caught:
        swept(make(ADAM, groups=True), step)
    assert caught.value is error
    assert caught.value.curve.losses.tolist() == swept(make(ADAM, groups=True)).losses[:after].tolist()
    assert caught.value.curve.status == "interrupted"


def interrupted_after_nine(sweep: LRSweep, gan: Gan) -> None:
    with sweep:
        for (real,) in sweep(gan.loader):
            sweep.report(gan.step(real))
            if len(sweep.curve.lrs) == 9:
                signal.raise_signal(signal.SIGINT)


def test_a_real_ctrl_c_in_a_gan_puts_both_models_back():
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts the tests in the background ignores it
    try:
        gan = Gan()
        before = pictures(*gan.parts)
        sweep = LRSweep([gan.generator, gan.critic], gan.optimizers, **RANGE)
        with pytest.raises(KeyboardInterrupt) as caught:
            interrupted_after_nine(sweep, gan)
        assert_untouched(before, pictures(*gan.parts))
        assert caught.value.curve == sweep.curve
        assert len(sweep.curve.lrs) == 9
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, handler)


class Pressing:
    """Ctrl-C while its position is looked up: at the first call, when it is preserved, at the second, when it is put back."""

    def __init__(self, at: str) -> None:
        self.dataset, self.at, self.batches = self, at, trainings.batches()

    def __iter__(self) -> Any:
        return iter(self.batches)

    def state_dict(self) -> dict[str, Any]:
        self.press("state_dict")
        return {}

    def load_state_dict(self, state: Any) -> None:
        self.press("load_state_dict")

    def press(self, where: str) -> None:
        if where == self.at:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(("at", "points"), [("state_dict", 0), ("load_state_dict", 40)])
def test_ctrl_c_while_all_is_looked_up_or_put_back_waits_until_it_is(at, points):
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        training = make()
        training.data = Pressing(at)
        with pytest.raises(KeyboardInterrupt) as caught:
            swept(training, end_lr=1e-3)
        assert len(caught.value.curve.losses) == points
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, handler)


# Misuse -------------------------------------------------------------------------------------------------------------------------


def twice_reported(sweep: LRSweep, training: Training) -> None:
    for _ in sweep(training.data):
        sweep.report(1.0)
        sweep.report(1.0)


def never_reported(sweep: LRSweep, training: Training) -> None:
    for batch in sweep(training.data):
        step_of(training, batch)


def twice_swept(sweep: LRSweep, training: Training) -> None:
    for _ in range(2):
        for _ in sweep(training.data):
            sweep.report(1.0)


def reported(loss: Any) -> Any:
    def use(sweep: LRSweep, training: Training) -> None:
        for batch in sweep(training.data):
            step_of(training, batch)
            sweep.report(loss)

    return use


MISUSE = {
    "report twice": (twice_reported, RuntimeError, "again after the loss of step 1 was reported", "call it once for every batch"),
    "no report": (never_reported, RuntimeError, "the loss of step 1 was not reported", "call report(loss) once"),
    "report first": (lambda sweep, training: sweep.report(1.0), RuntimeError, "before the first batch", "inside the loop"),
    "sweep twice": (twice_swept, RuntimeError, "sweep(...) was called twice", "make a new one"),
    "entered twice": (lambda sweep, training: sweep.__enter__(), RuntimeError, "has been entered before", "make a new one"),
    "several losses": (reported(torch.ones(8)), BadArgument, "a tensor of shape (8,), not one number", "loss.mean()"),
    "no loss": (reported(None), BadType, "report got a NoneType", "pass the loss of this step"),
    "a truth": (reported(True), BadType, "report got a bool", "pass the loss of this step"),
    "complex": (reported(torch.ones((), dtype=torch.cfloat)), BadType, "report got a complex", "pass the loss of this step"),
    "a list": (reported([1.0]), BadType, "report got a list", "pass the loss of this step"),
    "an iterator": (
        lambda sweep, training: sweep(iter(trainings.batches())),
        BadType,
        "which can be read only once",
        "pass the DataLoader",
    ),
    "empty data": (lambda sweep, training: sweep([]), BadArgument, "data is empty", "at least one batch"),
}


@pytest.mark.parametrize(("use", "exception", "cause", "cure"), MISUSE.values(), ids=MISUSE)
def test_misuse_gets_one_sentence_and_all_is_put_back(use, exception, cause, cure):
    training = make()
    before = fingerprint(training.model, training.optimizer, [training.data])
    with pytest.raises(exception) as caught, LRSweep(training.model, training.optimizer, **RANGE) as sweep:
        use(sweep, training)
    assert_untouched(before, fingerprint(training.model, training.optimizer, [training.data]))
    message = str(caught.value)
    assert cause in message
    assert cure in message
    assert "\n" not in message


@pytest.mark.parametrize("use", [lambda sweep: sweep([1]), lambda sweep: sweep.report(1.0)], ids=["sweep", "report"])
def test_use_outside_the_block_is_refused(use):
    training = make()
    sweep = LRSweep(training.model, training.optimizer, **RANGE)
    with pytest.raises(RuntimeError, match=r"before the with block .* call it inside"):
        use(sweep)
    with sweep:
        pass
    with pytest.raises(RuntimeError, match=r"after the with block .* call it inside"):
        use(sweep)
    with pytest.raises(RuntimeError, match="has been entered before"), sweep:
        pass


def test_batches_end_with_the_block():
    training = make()
    with LRSweep(training.model, training.optimizer, **RANGE) as sweep:
        batches = sweep(training.data)
        next(batches)
    assert list(batches) == []
