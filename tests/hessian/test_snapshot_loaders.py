"""Loaders that know where they are, with live workers, and torchdata's: the next batches are the ones that would have come."""

from __future__ import annotations

import warnings

import pytest
import torch
from oracles import assert_untouched, bits, fingerprint
from torch import nn
from torch.utils.data import Dataset, IterableDataset

import hessian
import lrfinder
from hessian import preserve

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its import uses what torch has marked as old
    from torchdata.stateful_dataloader import StatefulDataLoader

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata calls it


class Numbers(Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        return torch.tensor(float(index))


class Counter(IterableDataset):
    """A stream that knows its position."""

    def __init__(self):
        self.position = 0

    def __iter__(self):
        while self.position < 12:
            self.position += 1
            yield torch.tensor(float(self.position))
        self.position = 0

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


def stateful(data):
    shuffle = {"shuffle": True, "generator": torch.Generator().manual_seed(1)} if isinstance(data, Numbers) else {}
    torch.default_generator.manual_seed(0)
    return StatefulDataLoader(data, batch_size=2, **shuffle)


def what_comes(make, read, told, measure):
    """What a loader gives in the rest of this epoch and in the next, after ``read`` batches."""
    loader = stateful(make())
    epoch = iter(loader)
    for _ in range(read):
        next(epoch)
    states = [loader.state_dict()] if told else []
    if measure:
        with preserve(loader) as start:
            list(loader)
            start.restore()
            next(iter(loader))
    states += [loader.state_dict()] if told else []
    return repr(states[-1:]), bits(list(epoch)), bits(list(loader))


@pytest.mark.parametrize("told", [False, True], ids=["", "asked for its state"])
@pytest.mark.parametrize("read", [0, 1, 3])
@pytest.mark.parametrize("make", [Numbers, Counter])
def test_a_stateful_loader_goes_on_where_it_was(make, read, told):
    assert what_comes(make, read, told, measure=True) == what_comes(make, read, told, measure=False)


def test_the_state_of_a_stateful_loader_is_what_it_was_and_can_be_loaded():
    loader = stateful(Numbers())
    epoch = iter(loader)
    next(epoch)
    before = loader.state_dict()
    with preserve(loader):
        list(loader)
    assert repr(loader.state_dict()) == repr(before)
    other = stateful(Numbers())
    other.load_state_dict(loader.state_dict())
    assert bits(list(other)) == bits(list(epoch))


def test_a_fresh_loader_gives_the_same_epochs_afterwards():
    def epochs(measure):
        loader = stateful(Numbers())
        if measure:
            with preserve(loader):
                list(loader)
        return bits([list(loader), list(loader)])

    assert epochs(True) == epochs(False)


# A batch norm that is frozen inside a model that trains -----------------------------------------------------------------------------


class Frozen(nn.Module):
    """Says what it saw in training."""

    def __init__(self):
        super().__init__()
        self.norm, self.last = nn.BatchNorm1d(4), nn.Linear(4, 3)
        self.norm.eval()

    def forward(self, inputs):
        MODES.append((self.norm.training, self.norm.running_mean.tolist()))
        return self.last(self.norm(inputs))


MODES = []
CALLS = {
    "find_lr": (lrfinder.find_lr, {"budget": 110}),
    "range_test": (lrfinder.range_test, {"num_iter": 8}),
    "stable_lr": (hessian.stable_lr, {"max_hvps": 5, "tol": 0.5}),
}


@pytest.mark.parametrize(("call", "keywords"), CALLS.values(), ids=CALLS)
def test_a_frozen_batch_norm_stays_frozen_throughout(call, keywords):
    MODES.clear()
    torch.default_generator.manual_seed(0)
    model = Frozen()
    inputs = [torch.randn(8, 4) for _ in range(8)]
    data = [(batch, batch[:, :3].argmax(1)) for batch in inputs]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = fingerprint(model, optimizer)
    call(model, optimizer, data, nn.CrossEntropyLoss(), **keywords)
    assert_untouched(before, fingerprint(model, optimizer))
    assert len(MODES) > 4
    assert all(not training and not any(mean) for training, mean in MODES)
