"""Batches as real trainings have them: whatever they are packed in, the numbers are those of the same samples as plain pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
from oracles import assert_untouched, fingerprint
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from trainings import points
from transformers import BatchEncoding
from transformers.utils import ModelOutput

from hessian import stable_lr
from hessian.batches import Batches
from hessian.errors import BadType
from hessian.nested import batch_size, move, tensors_in
from lrfinder import LRSweep, find_lr, range_test
from lrfinder.setaside import set_aside

QUICK = {"budget": 120, "total_steps": 200, "progress": False}


class Named(NamedTuple):
    x: Tensor
    y: Tensor


@dataclass
class Record:
    x: Tensor
    y: Tensor
    note: str = "train"
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = len(self.x)


@dataclass(frozen=True, slots=True)
class Frozen:
    x: Tensor
    y: Tensor


@dataclass
class Output(ModelOutput):
    """As transformers' models return them: a dataclass that is a mapping too, and forbids ``update``."""

    x: Any = None
    y: Any = None


class Wrapped(dict):
    """A mapping of a library's own."""


def parts(batch: Any) -> tuple[Tensor, Tensor]:
    """Inputs and target of any of the batches below."""
    if isinstance(batch, Mapping):
        return (batch["x"], batch["y"]) if "x" in batch else parts(batch["deep"])
    if isinstance(batch, (list, tuple)) and len(batch) == 1:
        return parts(batch[0])
    return (batch.x, batch.y) if hasattr(batch, "x") else tuple(batch)


SHAPES: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "a mapping": lambda x, y: {"x": x, "y": y},
    "a nested mapping": lambda x, y: {"name": "train", "deep": {"x": x, "y": y, "weight": None}},
    "a nested tuple": lambda x, y: (({"x": x, "y": y},),),
    "a named tuple": Named,
    "a list": lambda x, y: [x, y],
    "a defaultdict": lambda x, y: defaultdict(list, x=x, y=y),
    "a subclass of dict": lambda x, y: Wrapped(x=x, y=y),
    "a mapping that cannot be written to": lambda x, y: MappingProxyType({"x": x, "y": y}),
    "a dataclass": Record,
    "a frozen dataclass": Frozen,
    "dataclasses in a mapping": lambda x, y: {"deep": Frozen(x, y)},
    "a BatchEncoding": lambda x, y: BatchEncoding({"x": x, "y": y}),
    "a ModelOutput": lambda x, y: Output(x=x, y=y),
}
every_shape = pytest.mark.parametrize("pack", SHAPES.values(), ids=SHAPES)


def small_net(inputs: int = 6) -> tuple[nn.Module, torch.optim.Optimizer]:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        model = nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, 3))
    return model, torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)


def loss_of(model: nn.Module, batch: Any) -> Tensor:
    x, y = parts(batch)
    return nn.functional.cross_entropy(model(x), y)


def packed(pack: Callable[[Tensor, Tensor], Any], size: int = 8) -> list[Any]:
    x, y = points()
    return [pack(*pair) for pair in zip(x.split(size), y.split(size), strict=True)]


def measured(model: nn.Module, optimizer: Any, data: Any, **loss: Any) -> tuple[list[float], float, float]:
    """What the three measurements say; nothing is left changed by any of them."""
    found = []
    before = fingerprint(model, optimizer)
    for measure in (
        lambda: range_test(model, optimizer, data, num_iter=40, progress=False, **loss).losses.tolist(),
        lambda: find_lr(model, optimizer, data, **QUICK, **loss).lr,
        lambda: stable_lr(model, optimizer, data, **loss).lr,
    ):
        found.append(measure())
        assert_untouched(before, fingerprint(model, optimizer))
    return tuple(found)


@cache
def of_pairs(size: int = 8) -> tuple[list[float], float, float]:
    """The same for plain pairs."""
    return measured(*small_net(), packed(lambda x, y: (x, y), size), criterion=nn.CrossEntropyLoss())


# Containers -----------------------------------------------------------------------------------------------------------------------


@every_shape
def test_the_measurements_do_not_depend_on_what_a_batch_is_packed_in(pack):
    assert measured(*small_net(), packed(pack), loss_fn=loss_of, device="cpu") == of_pairs()


@every_shape
def test_a_single_batch_is_divided_by_its_rows_whatever_it_is(pack):
    assert measured(*small_net(), packed(pack, 96), loss_fn=loss_of) == of_pairs(96)


@every_shape
def test_no_row_of_a_single_batch_is_both_trained_on_and_scored(pack):
    numbers = torch.arange(20.0)
    aside = set_aside(Batches([pack(numbers[:, None], numbers)]), None, seed=0)
    (scored,), trained = aside.scored, next(iter(aside.training))
    rows = [parts(batch) for batch in (scored, trained)]
    assert [y.tolist() for _, y in rows] == [[4.0, 9.0, 14.0, 19.0], [n for n in numbers.tolist() if n % 5 != 4]]
    assert all(x.shape == (len(y), 1) and x[:, 0].equal(y) for x, y in rows)
    assert type(scored) is type(trained) is type(pack(numbers, numbers))
    assert aside.samples == 4


@every_shape
def test_all_of_a_batch_is_moved_and_counted_and_the_original_stays(pack):
    batch = pack(*points(8))
    there = move(batch, torch.device("meta"))
    assert [tensor.device.type for tensor in tensors_in(there)] == ["meta", "meta"]
    assert [tensor.device.type for tensor in tensors_in(batch)] == ["cpu", "cpu"]
    assert (batch_size(batch), batch_size(there)) == (8, 8)
    assert type(there) is type(batch)


def test_a_batch_that_moves_itself_is_not_moved_under_its_owner():
    class Graph:
        def __init__(self) -> None:
            self.x = torch.ones(2)

        def to(self, device: torch.device) -> Graph:
            self.x = self.x.to(device)
            return self

    batch = Graph()
    assert move([batch], torch.device("meta"))[0].x.is_meta
    assert not batch.x.is_meta


def test_a_moved_dataclass_keeps_what_is_no_tensor():
    batch = Record(*points(8), note="second")
    batch.size = 5  # a copy made anew would count again
    there = move(batch, torch.device("meta"))
    assert (there.note, there.size, batch.x.device.type) == ("second", 5, "cpu")


def test_a_class_in_a_batch_is_no_record():
    assert move({"kind": Record, "x": torch.ones(2)}, torch.device("cpu"))["kind"] is Record


# Sequences of different lengths ---------------------------------------------------------------------------------------------------


class Reader(nn.Module):
    """An LSTM over sequences of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(2, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, sequences: PackedSequence) -> Tensor:
        return self.head(self.cells(sequences)[1][0][0])


def reader() -> tuple[nn.Module, torch.optim.Optimizer]:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        model = Reader()
    return model, torch.optim.Adam(model.parameters(), lr=0.01)


def sequences(count: int, *, in_order: bool) -> tuple[list[Tensor], Tensor]:
    """Sequences that start at their class; longest first, if in order."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(3, (count,), generator=generator)
    lengths = torch.randint(1, 6, (count,), generator=generator)
    if in_order:
        lengths = lengths.sort(descending=True).values
    noise = [torch.randn(int(length), 2, generator=generator) / 4 for length in lengths]
    return [noise[index] + classes[index] for index in range(count)], classes


def packs(size: int, *, in_order: bool) -> list[tuple[PackedSequence, Tensor]]:
    batches = []
    for start in range(0, 96, size):
        values, classes = sequences(96, in_order=in_order)
        stretch = slice(start, start + size)
        batches.append((pack_sequence(values[stretch], enforce_sorted=in_order), classes[stretch]))
    return batches


def loss_of_lists(model: nn.Module, batch: Any) -> Tensor:
    """The same training with the packing inside."""
    order = all(len(a) >= len(b) for a, b in zip(batch[0], batch[0][1:], strict=False))
    return nn.functional.cross_entropy(model(pack_sequence(batch[0], enforce_sorted=order)), batch[1])


@pytest.mark.parametrize("size", [8, 96])
def test_packed_sequences_are_batches_like_any_other(size):
    measured(*reader(), packs(size, in_order=False), criterion=nn.CrossEntropyLoss(), device="cpu")


def test_packed_sequences_train_as_if_they_were_packed_by_the_loss():
    lists = [(unpack_sequence(pack), classes) for pack, classes in packs(8, in_order=False)]
    curves = [
        range_test(*reader(), packs(8, in_order=False), nn.CrossEntropyLoss(), progress=False),
        range_test(*reader(), lists, loss_fn=loss_of_lists, progress=False),
    ]
    assert curves[0].losses.tolist() == curves[1].losses.tolist()
    assert curves[0].batch_size == 8


@pytest.mark.parametrize("in_order", [False, True], ids=["in any order", "longest first"])
def test_packed_sequences_are_counted_and_divided_by_sequence(in_order):
    values, _ = sequences(20, in_order=in_order)
    batch = (pack_sequence(values, enforce_sorted=in_order), torch.arange(20))
    assert batch_size(batch) == 20
    aside = set_aside(Batches([batch]), None, seed=0)
    for sequence, numbers in (*aside.scored, next(iter(aside.training))):
        assert [part.tolist() for part in unpack_sequence(sequence)] == [values[number].tolist() for number in numbers]
    assert aside.scored[0][1].tolist() == [4, 9, 14, 19]
    assert (aside.scored[0][0].sorted_indices is None) == in_order


def test_packed_sequences_of_another_number_than_the_batch_stay_whole():
    batch = (torch.arange(20), pack_sequence(sequences(5, in_order=False)[0], enforce_sorted=False))
    aside = set_aside(Batches([batch]), None, seed=0)
    assert aside.scored[0][1] is batch[1]


# Several inputs -------------------------------------------------------------------------------------------------------------------


class Two(nn.Module):
    """Takes the coordinates in two pieces."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, left: Tensor, right: Tensor, scale: float = 1.0) -> Tensor:
        return self.net(torch.cat([left, right], dim=1)) * scale


def two() -> tuple[nn.Module, torch.optim.Optimizer]:
    net, _ = small_net()
    model = Two(net)
    return model, torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)


@pytest.mark.parametrize("kind", [tuple, list])
@pytest.mark.parametrize("size", [8, 96])
def test_all_but_the_last_part_of_a_batch_are_inputs(kind, size):
    data = packed(lambda x, y: kind((x[:, :2], x[:, 2:], y)), size)
    assert measured(*two(), data, criterion=nn.CrossEntropyLoss(), device="cpu") == of_pairs(size)


def test_a_loader_of_several_inputs_needs_no_loss_fn():
    x, y = points()
    loader = DataLoader(TensorDataset(x[:, :2], x[:, 2:], y), batch_size=8, shuffle=True)
    measured(*two(), loader, criterion=nn.CrossEntropyLoss())


@pytest.mark.parametrize("measure", [range_test, find_lr, stable_lr])
@pytest.mark.parametrize(
    ("batch", "cause"),
    [
        (lambda x, y: (x,), "a batch is 1 parts"),
        (lambda x, y: (x, x, x, x, y), "a batch is 5 parts, 4 inputs and the target, but Two does not take so many inputs"),
        (lambda x, y: Frozen(x, y), "a batch is a Frozen"),
    ],
    ids=["one", "five", "a dataclass"],
)
def test_what_is_no_inputs_and_target_is_refused(measure, batch, cause):
    model, optimizer = two()
    before = fingerprint(model, optimizer)
    with pytest.raises(BadType, match=rf"{cause}.*pass loss_fn=lambda model, batch"):
        measure(model, optimizer, packed(batch), nn.CrossEntropyLoss())
    assert_untouched(before, fingerprint(model, optimizer))


# Where batches come from ----------------------------------------------------------------------------------------------------------


class Stream(IterableDataset):
    """The points one by one, as from a socket: no length, no second look."""

    def __init__(self, count: int = 96) -> None:
        self.count = count

    def __iter__(self):
        yield from zip(*points(self.count), strict=True)


def drawn() -> tuple[Tensor, Tensor]:
    """A new batch every time, without a loader."""
    x, y = points()
    chosen = torch.randint(96, (8,))
    return x[chosen], y[chosen]


SOURCES: dict[str, Callable[[], Any]] = {
    "a list shorter than the sweep": lambda: packed(lambda x, y: (x, y), 32),
    "a loader shorter than the sweep": lambda: DataLoader(TensorDataset(*points()), batch_size=40, shuffle=True),
    "a stream": lambda: DataLoader(Stream(), batch_size=8),
    "a short stream": lambda: DataLoader(Stream(16), batch_size=8),
    "a stream read by a worker": lambda: DataLoader(Stream(), batch_size=8, num_workers=1),
    "a stream without a loader": lambda: Batched(),
    "a function": lambda: drawn,
}


class Batched:
    """Gives batches itself, as data sets of web archives do."""

    def __iter__(self):
        yield from packed(lambda x, y: (x, y))


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_batches_may_come_from_anywhere(source):
    curve, lr, limit = measured(*small_net(), source(), criterion=nn.CrossEntropyLoss())
    assert len(curve) > 20
    assert 1e-3 < lr < 10
    assert limit > 0


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_they_may_in_a_loop_of_ones_own(source):
    model, optimizer = small_net()
    before = fingerprint(model, optimizer)
    with LRSweep(model, optimizer, num_iter=40, progress=False) as sweep:
        for x, y in sweep(source()):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            sweep.report(loss)
    assert_untouched(before, fingerprint(model, optimizer))
    assert len(sweep.curve.losses) > 20
    assert sweep.curve.batch_size in (8, 32, 40)
