"""``preserve``: everything back bit for bit, whatever happens inside, and proof that these tests would see it if it were not."""

from __future__ import annotations

import random
import signal
import threading
from contextlib import nullcontext, suppress

import numpy as np
import pytest
import torch
from oracles import assert_untouched, bits, differences, fingerprint
from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, NAdam, RMSprop
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset

from hessian import preserve, snapshot
from hessian.snapshot import Snapshot, seed_everything

OPTIMIZERS = {
    "sgd": lambda parameters: SGD(parameters, lr=0.1),
    "sgd momentum": lambda parameters: SGD(parameters, lr=0.1, momentum=0.9),
    "adam": lambda parameters: Adam(parameters, lr=0.01),
    "adam tensor lr": lambda parameters: Adam(parameters, lr=torch.tensor(0.01)),
    "adamw amsgrad": lambda parameters: AdamW(parameters, lr=0.01, amsgrad=True),
    "rmsprop": lambda parameters: RMSprop(parameters, lr=0.01, momentum=0.9, centered=True),
    "adagrad": lambda parameters: Adagrad(parameters, lr=0.01),
    "nadam": lambda parameters: NAdam(parameters, lr=0.01),
}


class Everything(nn.Module):
    """Every kind of thing that a forward pass may change."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.layers = nn.Sequential(nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.3), nn.Linear(4, 2))
        self.register_buffer("mean", torch.zeros(4))  # assigned anew
        self.register_buffer("total", torch.zeros(4), persistent=False)  # changed in place
        self.calls = 0
        self.recent = torch.zeros(4)
        self.last = None
        self.hidden = (torch.zeros(4), torch.zeros(4))

    def forward(self, inputs):
        inner = self.first(inputs + float(np.random.normal()) * random.random())
        self.calls += 1
        self.mean = 0.9 * self.mean + 0.1 * inner.detach().mean(0)
        self.total.add_(inner.detach().sum(0))
        self.recent.mul_(0.5).add_(inner.detach()[0])
        self.last = inner.detach()
        self.hidden = (self.hidden[1] + 1, self.hidden[0] + 1)
        self.appears_later = True
        return self.layers(inner)


class Training:
    """A model, its optimizer and its loader, from fixed seeds."""

    def __init__(self, make=OPTIMIZERS["adam"], used=True):
        seed_everything(0)
        self.model = Everything()
        self.optimizer = make(self.model.parameters())
        data = TensorDataset(torch.randn(24, 3), torch.randint(2, (24,)))
        sampler = RandomSampler(data, generator=torch.Generator().manual_seed(1))
        self.loader = DataLoader(data, batch_size=4, sampler=sampler, generator=torch.Generator().manual_seed(2))
        if used:
            self.train(3)
            self.backward(next(iter(self.loader)))  # gradients that wait for a step
            self.model.first.bias.grad = None
            self.model.layers[0].eval()
            self.model.layers[3].bias.requires_grad_(False)

    def backward(self, batch):
        loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])
        loss.backward()
        return loss.item()

    def train(self, steps):
        losses = []
        while len(losses) < steps:
            for batch in self.loader:
                self.optimizer.zero_grad()
                losses.append(self.backward(batch))
                self.optimizer.step()
                if len(losses) == steps:
                    break
        return losses

    def disturb(self):
        """Whatever a measurement, or the user's code in it, could do."""
        self.train(2)
        self.model.layers[3].bias.requires_grad_(True)
        self.model.first.weight.requires_grad_(False)
        self.model.train()
        self.model.layers[2].eval()
        self.train(3)
        with torch.no_grad():
            self.model.first.weight.data = torch.zeros(4, 3)
            self.model.layers[3].weight.mul_(2)
        self.model.first.bias = nn.Parameter(torch.ones(4))
        self.model.layers[0].running_mean = torch.ones(4)
        self.model.extra = nn.Linear(1, 1)
        self.model.layers.append(nn.Identity())
        self.optimizer.param_groups[0]["lr"] = 7.0
        self.optimizer.param_groups[0]["initial_lr"] = 7.0
        del self.optimizer.param_groups[0]["weight_decay" if "weight_decay" in self.optimizer.param_groups[0] else "maximize"]
        self.optimizer.add_param_group({"params": list(self.model.extra.parameters()), "lr": 1.0})
        self.optimizer.param_groups[0]["params"].reverse()
        self.optimizer.notes = "added"

    def fingerprint(self):
        return fingerprint(self.model, self.optimizer, [self.loader])

    def preserved(self):
        return preserve(self.model, self.optimizer, self.loader)

    def values(self):
        """What further training depends on, without identities."""
        state = [self.optimizer.state[parameter] for parameter in self.model.parameters() if parameter in self.optimizer.state]
        return bits([dict(self.model.named_parameters()), dict(self.model.named_buffers()), state])


def disturb_with(training, part):
    """``part`` is called while the rest is being restored."""
    with training.preserved() as kept:
        kept._restores.insert(2, part)
        training.disturb()


def interrupted(interruption):
    return nullcontext() if interruption is None else pytest.raises(interruption)


@pytest.mark.parametrize("interruption", [None, ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_everything_is_back_bit_for_bit(make, used, interruption):
    training = Training(make, used)
    before = training.fingerprint()
    with interrupted(interruption), training.preserved():
        training.disturb()
        assert len(differences(before, training.fingerprint())) > 10
        if interruption is not None:
            raise interruption
    assert_untouched(before, training.fingerprint())


@pytest.mark.parametrize("interruption", [None, ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_training_goes_on_as_if_nothing_had_been(make, used, interruption):
    alone = Training(make, used)
    expected = (alone.train(10), alone.values())
    guarded = Training(make, used)
    with interrupted(interruption), guarded.preserved():
        guarded.disturb()
        if interruption is not None:
            raise interruption
    assert (guarded.train(10), guarded.values()) == expected


@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_restore_returns_to_the_start_in_between(make, used):
    training = Training(make, used)
    before = training.fingerprint()
    with training.preserved() as kept:
        start = training.fingerprint()
        for _ in range(2):
            training.disturb()
            kept.restore()
            assert_untouched(start, training.fingerprint())
        assert all(parameter.grad is None for parameter in training.model.parameters())
        training.model.train()
        training.backward(next(iter(training.loader)))  # adds to whatever gradient it finds: not to the one that was there
    assert_untouched(before, training.fingerprint())


def test_every_attempt_after_restore_is_the_same():
    training = Training()
    with training.preserved() as kept:
        first = (training.train(4), training.values())
        kept.restore()
        assert (training.train(4), training.values()) == first


# Each check can fail: spoil what restores one kind of thing, and the fingerprint differs there --------------------------------------


SPOILED = {
    "keep_tensors": "parameter layers.3.weight",
    "keep_flags": "gradient first.weight",
    "keep_module": "buffer layers.0.running_mean",
    "keep_attributes": "module ",
    "keep_optimizer": "group 0",
    "keep_mapping": "group 0 lr",
    "keep_random_state": "torch generator",
    "keep_loader": "loader 0 sampler generator",
}


@pytest.mark.parametrize(("function", "name"), SPOILED.items(), ids=SPOILED)
def test_a_spoiled_part_is_seen(function, name, monkeypatch):
    monkeypatch.setattr(snapshot, function, lambda *args, **kwargs: lambda: None)
    training = Training()
    before = training.fingerprint()
    with training.preserved():
        training.disturb()
    assert name in differences(before, training.fingerprint())


def test_every_part_is_among_the_spoiled():
    assert set(SPOILED) == {name for name in vars(snapshot) if name.startswith("keep_")}


@pytest.mark.parametrize("name", ["torch generator", "numpy generator", "python generator", "loader 0 loader generator"])
def test_disturbing_moves_every_generator(name):
    training = Training()
    before = training.fingerprint()
    training.disturb()
    assert name in differences(before, training.fingerprint())


# Single things ------------------------------------------------------------------------------------------------------------------


def test_a_tensor_attribute_that_becomes_a_parameter_or_vanishes_comes_back():
    model = Everything()
    before = fingerprint(model)
    with preserve(model):
        del model.recent
        model.recent = nn.Parameter(torch.ones(4))
        del model.mean, model.calls
    assert_untouched(before, fingerprint(model))


@pytest.mark.parametrize("change", [nn.Module.double, nn.Module.half, lambda model: model.to(memory_format=torch.channels_last)])
def test_a_conversion_inside_is_undone(change):
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3))
    before = fingerprint(model)
    with preserve(model):
        change(model)
    assert_untouched(before, fingerprint(model))
    assert model[0].weight.is_contiguous()


def test_a_transposed_weight_is_turned_back():
    model = nn.Linear(3, 3)
    before = fingerprint(model)
    with preserve(model):
        model.weight.data = model.weight.data.t()
    assert_untouched(before, fingerprint(model))


def test_an_expanded_buffer_can_be_restored():
    model = nn.Linear(1, 1)
    model.register_buffer("mask", torch.ones(1, 3).expand(4, 3))
    before = fingerprint(model)
    with preserve(model):
        model.mask[0, :].mul_(2)  # one row stands for all
        assert float(model.mask.sum()) == 24
    assert_untouched(before, fingerprint(model))
    assert model.mask.stride() == (0, 1)


def test_a_sparse_buffer_can_be_restored():
    model = nn.Linear(1, 1)
    model.register_buffer("graph", torch.eye(3).to_sparse())
    buffer = model.graph
    with preserve(model):
        model.graph.mul_(3)
        model.graph = torch.zeros(2)
    assert model.graph is buffer
    assert torch.equal(buffer.to_dense(), torch.eye(3))


def test_a_nan_and_a_negative_zero_come_back_as_they_were():
    model = nn.Linear(2, 1)
    model.weight.data = torch.tensor([[float("nan"), -0.0]])
    before = fingerprint(model)
    with preserve(model):
        model.weight.data.zero_()
    assert_untouched(before, fingerprint(model))


def test_a_parameter_of_two_modules_keeps_its_gradient():
    model = Everything()
    model(torch.ones(2, 3)).sum().backward()
    before = fingerprint(model)
    with preserve(model, model.first):
        model.zero_grad()
    assert_untouched(before, fingerprint(model))


def test_state_that_belongs_to_no_parameter_comes_back():
    model = nn.Linear(2, 1)
    optimizer = SGD(model.parameters(), lr=0.1)
    shared = torch.zeros(2)
    optimizer.state.update(count=3, shared=shared)
    with preserve(model, optimizer):
        optimizer.state["count"] = 4
        shared.add_(1)
        optimizer.state["shared"] = None
    assert dict(optimizer.state) == {"count": 3, "shared": shared}
    assert not shared.any()


def test_a_list_in_a_group_comes_back_after_every_restore():
    model = nn.Linear(2, 1)
    optimizer = SGD(model.parameters(), lr=0.1)
    optimizer.param_groups[0]["milestones"] = [1, 2]
    with preserve(model, optimizer) as kept:
        optimizer.param_groups[0]["milestones"].append(3)
        kept.restore()
        optimizer.param_groups[0]["milestones"].append(4)
    assert optimizer.param_groups[0]["milestones"] == [1, 2]


def test_the_generators_of_every_accelerator_come_back(monkeypatch):
    class Accelerator:  # this machine may have none
        states = (1, 2)

        def get_rng_state_all(self):
            return self.states

        def set_rng_state_all(self, states):
            self.states = states

    accelerator = Accelerator()
    monkeypatch.setattr(snapshot, "accelerator_module", lambda: accelerator)
    with preserve():
        accelerator.states = (3, 4)
    assert accelerator.states == (1, 2)


def test_loading_a_state_dict_inside_is_undone():
    training = Training()
    before = training.fingerprint()
    with training.preserved():
        saved = training.optimizer.state_dict()
        training.train(2)
        training.optimizer.load_state_dict(saved)
    assert_untouched(before, training.fingerprint())


def test_a_scheduler_made_inside_leaves_the_optimizer_alone():
    training = Training()
    before = training.fingerprint()
    with training.preserved():
        scheduler = torch.optim.lr_scheduler.StepLR(training.optimizer, 1, gamma=0.1)
        training.train(2)
        scheduler.step()
    assert_untouched(before, training.fingerprint())


def test_it_works_in_inference_mode():
    training = Training()
    before = training.fingerprint()
    with torch.inference_mode(), training.preserved():
        training.model.train()
        training.model(torch.ones(2, 3))
        training.model.first.weight.data.zero_()
    assert_untouched(before, training.fingerprint())


def test_a_snapshot_that_cannot_be_made_changes_nothing():
    training = Training()
    training.optimizer.state[training.model.first.weight]["lock"] = threading.Lock()  # cannot be copied
    training.loader.dataset.tensors[0].requires_grad_(False)
    gradient = training.model.first.weight.grad
    with pytest.raises(TypeError, match="cannot pickle"), training.preserved():
        pytest.fail("the block must not run")
    assert training.model.first.weight.grad is gradient


def test_a_part_that_fails_does_not_keep_the_others():
    training = Training()
    before = training.fingerprint()

    def fails():
        raise OSError("this part is lost")

    with pytest.raises(OSError, match="this part is lost"):
        disturb_with(training, fails)
    assert_untouched(before, training.fingerprint())


# Ctrl-C -------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def raising():
    """The usual handler: a shell that starts the tests in the background has Ctrl-C ignored."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)  # not os.kill: another thread may receive that, a moment later


@pytest.mark.usefixtures("raising")
def test_ctrl_c_waits_until_everything_is_restored():
    training = Training()
    before = training.fingerprint()
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        disturb_with(training, press_ctrl_c)
    assert_untouched(before, training.fingerprint())
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.usefixtures("raising")
def test_ctrl_c_would_leave_half_a_model_without_that(monkeypatch):
    monkeypatch.setattr(snapshot, "uninterrupted", nullcontext)
    training = Training()
    before = training.fingerprint()
    with pytest.raises(KeyboardInterrupt):
        disturb_with(training, press_ctrl_c)
    assert differences(before, training.fingerprint())


def test_ctrl_c_goes_to_the_users_own_handler():
    training = Training()
    before = training.fingerprint()
    caught = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: caught.append(differences(before, training.fingerprint())))
    try:
        disturb_with(training, press_ctrl_c)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert caught == [[]]  # called once, when all was back


@pytest.mark.usefixtures("raising")
def test_ctrl_c_while_restoring_after_an_error_is_not_lost():
    training = Training()
    training.disturb = lambda: [].pop()
    with pytest.raises(KeyboardInterrupt) as caught:
        disturb_with(training, press_ctrl_c)
    assert isinstance(caught.value.__context__, IndexError)


def test_it_works_outside_the_main_thread():
    training = Training()
    before = training.fingerprint()
    failures = []

    def work():
        try:
            with training.preserved():
                training.disturb()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []
    assert_untouched(before, training.fingerprint())


# Loaders with live workers ------------------------------------------------------------------------------------------------------


class Noisy(Dataset):
    """Draws in the worker, so that a worker which has moved on gives other samples."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return torch.tensor([float(index), float(torch.rand(()))])


def persistent_loader():
    generator = torch.Generator().manual_seed(0)
    return DataLoader(Noisy(), batch_size=2, shuffle=True, generator=generator, num_workers=1, persistent_workers=True)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("started", [False, True], ids=["fresh", "started"])
def test_persistent_workers_are_where_they_were(started):
    def epochs(measure):
        loader = persistent_loader()
        if started:
            list(loader)
        pool = loader._iterator
        if measure:
            with preserve(loader) as kept:
                list(loader)
                kept.restore()
                list(loader)
            assert loader._iterator is pool
        seen = [torch.cat(list(loader)) for _ in range(2)]
        stop(loader)
        return bits(seen)

    assert epochs(measure=True) == epochs(measure=False)


def stop(loader):
    """Ends the workers now: at interpreter exit they would warn."""
    with suppress(AttributeError):
        loader._iterator._shutdown_workers()


def test_any_other_data_is_left_alone():
    class Stream:
        _iterator = "mine"

        def __iter__(self):
            return iter([1])

    stream = Stream()
    with preserve(stream, [1, 2], lambda: 3):
        assert stream._iterator == "mine"
    assert "_iterator" not in vars(stream)


def test_generators_are_found_through_a_batch_sampler():
    data = TensorDataset(torch.arange(6))
    generator = torch.Generator().manual_seed(3)
    batches = torch.utils.data.BatchSampler(RandomSampler(data, generator=generator), batch_size=2, drop_last=False)
    loader = DataLoader(data, batch_sampler=batches)
    state = generator.get_state()
    with preserve(loader):
        list(loader)
        assert not torch.equal(generator.get_state(), state)
    assert torch.equal(generator.get_state(), state)


def test_seed_everything_seeds_all_three_generators():
    def draw(seed):
        seed_everything(seed)
        return float(torch.rand(())), float(np.random.rand()), random.random()

    with preserve():
        assert draw(5) == draw(5)
        assert not set(draw(5)) & set(draw(6))
        draw(2**40)  # NumPy takes 32 bits only


def test_a_snapshot_alone_changes_nothing():
    training = Training()
    before = training.fingerprint()
    Snapshot([training.model], [training.optimizer], [training.loader])
    assert_untouched(before, training.fingerprint())
