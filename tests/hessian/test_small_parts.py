"""Vectors, param groups, files, codec, batches, checks: the small parts under everything else."""

from __future__ import annotations

import json
import math
import os
import stat
from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import Quadratic, bits, symmetric
from torch import nn
from torch.optim import SGD, Adam
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from hessian import codec
from hessian.batches import Batches
from hessian.checks import positive_float, positive_int, whole_number
from hessian.describe import describe_optimizer
from hessian.errors import BadArgument, BadType
from hessian.files import write_atomically
from hessian.groups import base_lrs, lr_ratios, set_lr
from hessian.nested import batch_size, move, tensors_in
from hessian.result_base import csv_text
from hessian.spaces import regrouped, stretches
from hessian.vectors import dot, dots, flatten, norm, normals, random_unit, unflatten

# Vectors ------------------------------------------------------------------------------------------------------------------------

shapes = st.lists(st.lists(st.integers(0, 3), max_size=3), min_size=1, max_size=4)


@given(shapes)
def test_flatten_and_unflatten_are_inverse(shapes):
    total = 0
    tensors = []
    for shape in shapes:
        count = math.prod(shape)
        tensors.append(torch.arange(total, total + count, dtype=torch.float64).reshape(shape))
        total += count
    flat = flatten(tensors)
    assert flat.tolist() == list(range(total))  # in order
    assert bits(unflatten(flat, tensors)) == bits(tensors)


def test_flatten_copies():
    weight = torch.zeros(3)
    flatten([weight]).add_(1)
    assert not weight.any()


def test_unflatten_takes_a_column_of_a_matrix():
    columns = torch.arange(12.0).reshape(6, 2)
    first, second = unflatten(columns[:, 1], [torch.zeros(2, 2), torch.zeros(2, dtype=torch.float64)])
    assert first.tolist() == [[1, 3], [5, 7]]
    assert second.tolist() == [9, 11]
    assert second.dtype == torch.float64


def test_dot_sums_in_float64():
    assert dot(torch.tensor([1e8, 1.0, -1e8]), torch.ones(3)) == 1.0  # 1e8 + 1 is 1e8 in float32
    assert norm(torch.tensor([3.0, 4.0])) == 5.0


def test_a_probe_depends_on_its_seed_only():
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = random_unit(1000, torch.zeros(1), seed=5)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first, random_unit(1000, torch.zeros(1), seed=5))
    assert not torch.equal(first, random_unit(1000, torch.zeros(1), seed=6))
    assert norm(first) == pytest.approx(1, abs=1e-6)  # float32
    assert abs(dot(first, random_unit(1000, torch.zeros(1), seed=6))) < 5 / 1000**0.5  # five standard deviations


def test_long_vectors_are_drawn_and_multiplied_in_parts_that_make_no_difference(monkeypatch):
    like, size = torch.zeros(1, dtype=torch.float64), 1000
    first, second = (random_unit(size, like, seed=seed) for seed in (5, 6))
    matrix = torch.stack([first, second], 1)
    right, both = dot(first, second), dots(matrix, matrix)
    for chunk in (64, 992):  # 1000 = 992 + 8: of fewer than 16 alone torch would draw others
        monkeypatch.setattr("hessian.vectors.CHUNK", chunk)
        assert float((random_unit(size, like, seed=5) - first).abs().max()) < 1e-16
        assert dot(first, second) == pytest.approx(right, abs=1e-15)
        assert dots(matrix, matrix).tolist() == pytest.approx(both.tolist(), rel=1e-14)


def test_numbers_come_in_groups_of_any_length():
    whole = torch.cat(list(normals(100, 3)))
    assert torch.equal(torch.cat(list(regrouped(iter(whole.split(7)), [3, 30, 0, 1, 66]))), whole)
    assert [len(part) for part in regrouped(iter(whole.split(7)), [3, 30, 0, 1, 66])] == [3, 30, 0, 1, 66]


def test_what_counts_here_of_a_vector_is_found_in_stretches():
    assert stretches([3, 2, 4, 0, 1], [True, True, False, True, True]) == [slice(0, 5), slice(9, 10)]
    assert stretches([3, 2], [False, False]) == []


# Param groups -------------------------------------------------------------------------------------------------------------------


def two_groups(first=0.1, second=0.02):
    model = Quadratic(symmetric([1.0, 2.0, 3.0]))
    return SGD([{"params": [model.first], "lr": first}, {"params": [model.second], "lr": second}], lr=1.0)


def test_ratios_are_relative_to_the_largest_group():
    assert lr_ratios(two_groups(0.02, 0.1)) == pytest.approx([0.2, 1.0])
    assert lr_ratios(two_groups(0.0, 0.1)) == [0.0, 1.0]


def test_the_lr_before_any_schedule_is_the_base():
    optimizer = two_groups()
    torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5)
    assert base_lrs(optimizer) == [0.1, 0.02]


@pytest.mark.parametrize(("first", "second"), [(0.0, 0.0), (float("inf"), 0.1), (-0.1, 0.1), (float("nan"), 0.1)])
def test_rates_without_a_ratio_are_refused_with_their_values(first, second):
    optimizer = two_groups()
    optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = first, second
    with pytest.raises(BadArgument, match=rf"base learning rates are \[{first}, {second}\].*create it with a positive lr"):
        lr_ratios(optimizer)


def test_setting_the_lr_keeps_the_ratio_and_the_tensor():
    model = Quadratic(symmetric([1.0, 2.0, 3.0]))
    rate = torch.tensor(0.1)
    optimizer = Adam([{"params": [model.first], "lr": rate}, {"params": [model.second], "lr": 0.02}])
    set_lr(optimizer, 1.0, [1.0, 0.2])
    assert optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == 1.0
    assert optimizer.param_groups[1]["lr"] == 0.2
    assert isinstance(optimizer.param_groups[1]["lr"], float)


DESCRIPTIONS = {
    "SGD": lambda parameters: SGD(parameters, lr=0.1),
    "SGD(momentum=0.9, nesterov=True)": lambda parameters: SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
    "Adam(betas=(0.5, 0.999), amsgrad=True)": lambda parameters: Adam(parameters, betas=(0.5, 0.999), amsgrad=True),
    "AdamW(weight_decay=0.01)": lambda parameters: torch.optim.AdamW(parameters),
    "RMSprop(alpha=0.9)": lambda parameters: torch.optim.RMSprop(parameters, alpha=0.9),
}


@pytest.mark.parametrize(("text", "make"), DESCRIPTIONS.items(), ids=DESCRIPTIONS)
def test_an_optimizer_in_words(text, make):
    assert describe_optimizer(make(nn.Linear(1, 1).parameters())) == text


def test_several_groups_in_words():
    assert describe_optimizer(two_groups()) == "SGD in 2 groups"


# Files --------------------------------------------------------------------------------------------------------------------------


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "result.json"
    assert write_atomically(path, b"one") == path
    write_atomically(str(path), b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_written_file_has_ordinary_rights(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    written = write_atomically(tmp_path / "written", b"")
    assert stat.S_IMODE(written.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("function", ["fdopen", "chmod", "replace"])
def test_the_old_file_stays_whole_if_the_new_one_cannot_be_written(function, error, tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    path.write_bytes(b"old")

    def fails(*args):
        raise error("disk full")

    monkeypatch.setattr(os, function, fails)
    with pytest.raises(error, match="disk full"):
        write_atomically(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_missing_folder_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "result.json", b"")


def test_csv_keeps_every_digit():
    assert csv_text([("lr", "loss"), (0.1 + 0.2, float("nan"))]) == "lr,loss\n0.30000000000000004,nan\n"


# Codec --------------------------------------------------------------------------------------------------------------------------


class Colour(Enum):
    RED = "warm"
    BLUE = "cold"


@dataclass(frozen=True)
class Inner:
    x: int

    def to_dict(self):
        return {"x": self.x}

    @classmethod
    def from_dict(cls, values):
        return cls(**values)


@dataclass(frozen=True)
class Sample:
    number: float
    count: int
    text: str
    flag: bool
    maybe: float | None
    colour: Colour
    side: Literal["left", "right"]
    many: tuple[float, ...]
    pair: tuple[int, str]
    table: dict[str, float]
    inner: Inner
    colours: tuple[Colour, ...] = ()
    kind: ClassVar[str] = "sample"


floats = st.floats(allow_nan=True, allow_infinity=True)
samples = st.builds(
    Sample,
    number=floats,
    count=st.integers(-(2**53), 2**53),
    text=st.text(max_size=5),
    flag=st.booleans(),
    maybe=st.none() | floats,
    colour=st.sampled_from(Colour),
    side=st.sampled_from(["left", "right"]),
    many=st.lists(floats, max_size=3).map(tuple),
    pair=st.tuples(st.integers(-9, 9), st.text(max_size=3)),
    table=st.dictionaries(st.text(max_size=3), floats, max_size=3),
    inner=st.builds(Inner, st.integers(-9, 9)),
    colours=st.lists(st.sampled_from(Colour), max_size=2).map(tuple),
)


@given(samples)
def test_what_is_encoded_is_plain_json_and_comes_back(sample):
    text = json.dumps(codec.encode_fields(sample), allow_nan=False)
    again = Sample(**codec.decode_fields(Sample, json.loads(text)))
    assert repr(again) == repr(sample)  # repr tells every float apart, and takes NaN for equal


def test_arrays_are_lists_of_floats():
    @dataclass
    class Curve:
        values: np.ndarray[Any, np.dtype[np.float64]]

    encoded = codec.encode(np.array([1.0, np.nan, np.inf]))
    assert encoded == [1.0, "nan", "inf"]
    assert codec.decode_field("values", np.ndarray[Any, np.dtype[np.float64]], encoded).tolist()[0] == 1.0


WRONG = [
    ({"number": "three"}, "'number' does not hold what it should"),
    ({"number": [1]}, "'number' does not hold"),
    ({"count": 1.0}, "'count' does not hold"),
    ({"count": True}, "'count' does not hold"),
    ({"flag": 1}, "'flag' does not hold"),
    ({"colour": "GREEN"}, "'colour' does not hold"),
    ({"side": "middle"}, "'side' does not hold"),
    ({"many": 1.0}, "'many' does not hold"),
    ({"pair": [1]}, "'pair' does not hold"),
    ({"table": [1]}, "'table' does not hold"),
    ({"inner": 3}, "'inner' does not hold"),
    ({"surplus": 3}, "an unknown field 'surplus'"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[str(change) for change, _ in WRONG])
def test_a_wrong_field_is_named(change, message):
    good = Sample(0.5, 1, "", True, None, Colour.RED, "left", (), (1, ""), {}, Inner(1))
    values = codec.encode_fields(good)
    codec.decode_fields(Sample, values)
    with pytest.raises(ValueError, match=message):
        codec.decode_fields(Sample, {**values, **change})


def test_a_missing_field_is_named_unless_it_has_a_default():
    good = Sample(0.5, 1, "", True, None, Colour.RED, "left", (), (1, ""), {}, Inner(1))
    values = codec.encode_fields(good)
    del values["colours"]
    assert "colours" not in codec.decode_fields(Sample, values)
    del values["text"]
    with pytest.raises(ValueError, match="the field 'text' is missing"):
        codec.decode_fields(Sample, values)


# Batches ------------------------------------------------------------------------------------------------------------------------


class Stream(IterableDataset):
    def __iter__(self):
        return iter(torch.arange(6.0))


def numbers():
    return TensorDataset(torch.arange(6.0))


def counter():
    """A function that returns one batch after the other."""
    seen = iter(range(100))
    return lambda: torch.tensor([float(next(seen))])


READABLE = {
    "loader": (lambda: DataLoader(numbers(), batch_size=2), 6),
    "loader that drops": (lambda: DataLoader(numbers(), batch_size=4, drop_last=True), 6),
    "loader of a stream": (lambda: DataLoader(Stream(), batch_size=2), None),
    "stream": (Stream, None),
    "list": (lambda: [torch.zeros(2), torch.ones(3)], 5),
    "tuple of pairs": (lambda: ((torch.zeros(2), 1), (torch.ones(1), 2)), 3),
    "list without tensors": (lambda: [1, 2], None),
    "function": (counter, None),
}


@pytest.mark.parametrize(("make", "samples"), READABLE.values(), ids=READABLE)
def test_every_kind_of_data_is_read_and_counted(make, samples):
    batches = Batches(make())
    assert len(batches.take(1)) == 1
    assert batches.samples == samples
    assert len(list(islice(batches, 20))) == 20  # over and over


def test_take_gives_no_batch_twice():
    assert len(Batches([1, 2, 3]).take(5)) == 3
    assert Batches([1, 2, 3]).take(2) == [1, 2]


def test_take_asks_a_function_only_as_often_as_needed():
    read = counter()
    assert [float(batch) for batch in Batches(read).take(3)] == [0, 1, 2]
    assert float(read()) == 3


def test_the_stream_starts_over_after_each_pass():
    assert list(islice(Batches([1, 2, 3]), 7)) == [1, 2, 3, 1, 2, 3, 1]


def test_a_function_that_stops_starts_over():
    left = []

    def one():
        if not left:
            left.extend([1, 2])
            raise StopIteration
        return left.pop()

    left.extend([3])
    assert list(islice(Batches(one), 5)) == [3, 2, 1, 2, 1]


def test_data_without_batches_ends_and_is_refused_by_take():
    batches = Batches(DataLoader(Stream(), batch_size=8, drop_last=True), name="val_data")
    assert list(batches) == []
    with pytest.raises(BadArgument, match="val_data gave no batch; check that its length is not 0 and that drop_last leaves one"):
        batches.take(1)
    with pytest.raises(BadArgument, match="data is empty"):
        Batches(DataLoader(numbers(), batch_size=8, drop_last=True))


UNREADABLE = [
    (lambda: numbers(), BadType, r"data is a Dataset, .*pass torch.utils.data.DataLoader\(data, batch_size=...\)"),
    (lambda: torch.zeros(3), BadType, "data is a Tensor, not batches"),
    (lambda: {"x": 1}, BadType, "data is a dict, not batches"),
    (lambda: "path", BadType, "data is a str, not batches"),
    (lambda: 3, BadType, "data is a int, not batches"),
    (lambda: (batch for batch in [1]), BadType, "data is a generator, which can be read only once"),
    (lambda: iter([1]), BadType, "data is a list_iterator, which can be read only once"),
    (list, BadArgument, r"data is empty \(its length is 0\)"),
]


@pytest.mark.parametrize(("make", "error", "message"), UNREADABLE, ids=[message[:24] for *_, message in UNREADABLE])
def test_what_cannot_be_read_twice_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        Batches(make())


Pair = namedtuple("Pair", "x y")


class Custom:
    """Like the batch classes of graph libraries."""

    def __init__(self):
        self.device = "cpu"

    def to(self, device):
        self.device = str(device)
        return self


def defaults(value):
    made = defaultdict(list)
    made["x"] = value
    return made


NESTED = {
    "tensor": lambda tensor: tensor,
    "list": lambda tensor: [tensor, 1],
    "tuple": lambda tensor: (tensor, "text"),
    "named tuple": lambda tensor: Pair(tensor, None),
    "dict": lambda tensor: {"x": tensor, "y": 3},
    "ordered dict": lambda tensor: OrderedDict(x=tensor),
    "default dict": defaults,
    "read-only mapping": lambda tensor: MappingProxyType({"x": tensor}),
    "nested": lambda tensor: {"x": [(tensor, {"z": tensor})]},
}


@pytest.mark.parametrize("make", NESTED.values(), ids=NESTED)
def test_nested_batches_move_and_keep_their_types(make):
    # The meta device is another device on every machine.
    batch = make(torch.zeros(4, 2))
    moved = move(batch, torch.device("meta"))
    assert type(moved) is type(batch)
    assert {tensor.device.type for tensor in tensors_in(moved)} == {"meta"}
    assert {tensor.device.type for tensor in tensors_in(batch)} == {"cpu"}  # the original stays
    assert len(list(tensors_in(moved))) == len(list(tensors_in(batch))) > 0
    assert batch_size(moved) == batch_size(batch) == 4
    assert move(batch, None) is batch


def test_a_batch_class_moves_itself():
    assert move([Custom()], torch.device("meta"))[0].device == "meta"


def test_the_batch_size_is_that_of_the_first_tensor_with_a_dimension():
    assert batch_size([torch.tensor(1.0), torch.zeros(3, 2), torch.zeros(5)]) == 3
    assert batch_size({"text": "abc"}) is None
    assert batch_size([torch.tensor(1.0)]) is None


def test_batches_are_moved_to_the_device():
    batches = Batches([(torch.zeros(2), torch.ones(2))], torch.device("meta"))
    assert next(iter(batches))[0].is_meta
    assert batches.take(1)[0][1].is_meta


# Checks -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int64(3), 1e300])
def test_a_positive_number_of_any_type_is_taken(value):
    found = positive_float("lr", value)
    assert type(found) is float
    assert found == value


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_positive_is_refused(value):
    with pytest.raises(BadArgument, match=f"lr={value:g} is not a positive finite number"):
        positive_float("lr", value)


@pytest.mark.parametrize("value", ["1", None, True, [1.0], 1j])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(BadType, match=r"lr=.* is not a number"):
        positive_float("lr", value)
    with pytest.raises(BadType, match=r"steps=.* is not a whole number"):
        positive_int("steps", value)


def test_whole_numbers_have_a_least():
    assert positive_int("steps", np.int32(1)) == 1
    assert type(positive_int("steps", np.int32(1))) is int
    assert whole_number("seed", 0) == 0
    with pytest.raises(BadArgument, match="steps=2 is too small; pass at least 3"):
        positive_int("steps", 2, least=3)
    with pytest.raises(BadType):
        positive_int("steps", 2.0)
