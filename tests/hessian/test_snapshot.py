"""``preserve``: everything back bit for bit, whatever happens inside, and proof that these tests would see it if it were not."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import weakref
from contextlib import nullcontext, suppress

import numpy as np
import pytest
import torch
from oracles import assert_untouched, bits, differences, fingerprint
from snapshot_cases import take_away
from snapshot_trainings import OPTIMIZERS, Everything, Training, disturb_with
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset

from hessian import preserve
from hessian.snapshot import Snapshot, randomness, seed_everything


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
    "keep_stretches": "parameter layers.3.weight",
    "keep_homes": "parameter first.weight",
    "keep_flags": "gradient first.weight",
    "keep_containers": "buffer layers.0.running_mean",
    "keep_dicts": "group 0 lr",
    "keep_sequence": "group 0 members",
    "keep_random_state": "torch generator",
    "keep_generator": "loader 0 sampler generator",
}


@pytest.mark.parametrize(("function", "name"), SPOILED.items(), ids=SPOILED)
def test_a_spoiled_part_is_seen(function, name, monkeypatch):
    take_away(monkeypatch, function)
    training = Training()
    before = training.fingerprint()
    with training.preserved():
        training.disturb()
    assert name in differences(before, training.fingerprint())


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
    monkeypatch.setattr(randomness, "accelerator_module", lambda: accelerator)
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
    class Torn:
        def __iter__(self):
            return iter(())

        def state_dict(self):
            raise OSError("no state to be had")

        load_state_dict = state_dict

    training = Training()
    before, handler = training.fingerprint(), signal.getsignal(signal.SIGINT)
    with pytest.raises(OSError, match="no state"), preserve(training.model, training.optimizer, training.loader, Torn()):
        pytest.fail("the block must not run")
    assert_untouched(before, training.fingerprint())
    assert signal.getsignal(signal.SIGINT) is handler


def test_what_cannot_be_copied_stays_in_the_optimizers_state_as_it_is():
    training = Training()
    lock = training.optimizer.state[training.model.first.weight]["lock"] = threading.Lock()
    with training.preserved():
        training.optimizer.state.clear()
    assert training.optimizer.state[training.model.first.weight]["lock"] is lock


def test_a_part_that_fails_does_not_keep_the_others():
    training = Training()
    before = training.fingerprint()

    def fails():
        raise OSError("this part is lost")

    with pytest.raises(OSError, match="this part is lost"):
        disturb_with(training, fails)
    assert_untouched(before, training.fingerprint())


# Threads, and loaders with live workers -----------------------------------------------------------------------------------------


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


def test_a_data_set_is_left_alone_unless_it_is_in_keep():
    class Counting(TensorDataset):
        reads = 0

        def __getitem__(self, index):
            self.reads += 1
            return super().__getitem__(index)

    data = Counting(torch.arange(4))
    loader = DataLoader(data)
    for keep, reads in (([], 4), ([data], 4), ([{"data": [data]}], 4)):
        with preserve(loader, keep=keep):
            list(loader)
        assert data.reads == reads


def test_a_module_that_gives_its_parts_in_its_own_way_is_kept_whole():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.frozen = nn.Linear(2, 2), nn.Linear(2, 2)

        def parameters(self):
            return self.layer.parameters()

        def children(self):
            raise NotImplementedError

    model = Own()
    before = bits(model.frozen.weight)
    with preserve(model):
        model.frozen.weight.data.add_(1)
    assert bits(model.frozen.weight) == before


def test_a_proxy_of_what_is_gone_is_passed_over():
    model = nn.Linear(2, 2)
    model.others = [weakref.proxy(model), weakref.proxy(nn.Linear(2, 2))]
    with preserve(model):
        model.others.clear()
    assert len(model.others) == 2


READ_ONLY = """
import sys, numpy, torch
from hessian import preserve
model = torch.nn.Module()
model.table = torch.from_numpy(numpy.memmap(sys.argv[1], dtype="f4", mode="r"))
with preserve(model):
    pass
"""


def test_memory_that_can_only_be_read_is_not_written_to(tmp_path):
    """In a process of its own, which would end by a signal."""
    np.zeros(1000, dtype=np.float32).tofile(tmp_path / "table")
    subprocess.run([sys.executable, "-W", "ignore", "-c", READ_ONLY, tmp_path / "table"], check=True)


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
