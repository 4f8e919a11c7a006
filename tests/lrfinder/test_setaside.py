"""What is scored on is never trained on, whatever the data are, or a doubt says that it may have been."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
import trainings
from hypothesis import given
from hypothesis import strategies as st
from oracles import assert_untouched, fingerprint
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, SubsetRandomSampler, WeightedRandomSampler
from trainings import make

from hessian.batches import Batches
from hessian.nested import batch_size
from hessian.problem import Problem
from lrfinder import Doubt, find_lr
from lrfinder.setaside import ENOUGH, MOST_BATCHES, SHARE, SetAside, set_aside

SIZE, BATCH = 200, 16


class Numbers(Dataset):
    """Every sample is its own number, so that it can be told where it went."""

    def __init__(self, size: int = SIZE) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor(int(index))


class ReadyBatches(Dataset):
    """Its items are whole batches of ten numbers."""

    def __len__(self) -> int:
        return SIZE // 10

    def __getitem__(self, index: int) -> Tensor:
        return torch.arange(10 * index, 10 * index + 10)


class Buckets:
    """Batches of unequal length, in an order of its own every time."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(3)

    def __iter__(self) -> Iterator[Any]:
        yield from torch.randperm(SIZE, generator=self.generator).split([5, 30, 1, 64, 100])


class Stream(IterableDataset):
    """Numbers in order, starting anew every time."""

    def __init__(self, size: int = SIZE) -> None:
        self.size = size

    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.arange(self.size))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def weighted() -> WeightedRandomSampler:
    return WeightedRandomSampler((torch.arange(SIZE) + 1.0).tolist(), 2 * SIZE, replacement=True, generator=generator())


class BucketsOfNumbers(Buckets):
    """The same as lists of plain numbers."""

    def __iter__(self) -> Iterator[Any]:
        yield from (indices.tolist() for indices in super().__iter__())


LOADERS = {
    "shuffled": lambda: DataLoader(Numbers(), batch_size=BATCH, shuffle=True, generator=generator()),
    "shuffled by the global generator": lambda: DataLoader(Numbers(), batch_size=BATCH, shuffle=True),
    "in order": lambda: DataLoader(Numbers(), batch_size=BATCH),
    "last dropped": lambda: DataLoader(Numbers(), batch_size=BATCH, shuffle=True, drop_last=True, generator=generator()),
    "weighted": lambda: DataLoader(Numbers(), batch_size=BATCH, sampler=weighted()),
    "batch sampler": lambda: DataLoader(Numbers(), batch_sampler=BucketsOfNumbers()),
    "torch's batch sampler": lambda: DataLoader(
        Numbers(), batch_sampler=BatchSampler(RandomSampler(Numbers(), generator=generator()), BATCH, drop_last=False)
    ),
    "full batch": lambda: DataLoader(Numbers(), batch_size=SIZE, drop_last=True),
    "single samples": lambda: DataLoader(Numbers(), batch_size=1, shuffle=True, generator=generator()),
    "ready batches": lambda: DataLoader(ReadyBatches(), batch_size=None, shuffle=True, generator=generator()),
    "a worker": lambda: DataLoader(Numbers(), batch_size=BATCH, shuffle=True, num_workers=1, generator=generator()),
    "arrays of numbers": lambda: DataLoader(Numbers(), batch_sampler=np.arange(SIZE).reshape(-1, 10)),
    "a function that collates": lambda: DataLoader(Numbers(), batch_size=BATCH, collate_fn=lambda samples: {"x": torch.stack(samples)}),
}
ALL_SEEN = set(LOADERS) - {"weighted", "last dropped"}  # in every single pass


def divided(data: Any, val_data: Any = None, seed: int = 0) -> SetAside:
    return set_aside(Batches(data), None if val_data is None else Batches(val_data), seed)


def numbers(batch: Any) -> list[int]:
    return (batch["x"] if isinstance(batch, dict) else batch).reshape(-1).tolist()


def passes(aside: SetAside, count: int = 3) -> Iterator[list[list[int]]]:
    """The numbers in the training's batches, pass by pass."""
    for _ in range(count):
        yield [numbers(batch) for batch in aside.training.data]


# Loaders ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LOADERS)
def test_no_scored_sample_is_trained_on_in_any_epoch(kind):
    aside = divided(LOADERS[kind]())
    scored = [number for batch in aside.scored for number in numbers(batch)]
    assert len(scored) == len(set(scored)) == aside.samples > 0
    assert aside.scored_on == "data"
    assert aside.share == pytest.approx(SHARE, abs=0.5 / SIZE) or len(scored) >= aside.share * SIZE  # less where a part is enough
    rest = set()
    for batches in passes(aside):
        seen = {number for batch in batches for number in batch}
        assert seen
        assert seen.isdisjoint(scored)
        rest |= seen
        assert kind not in ALL_SEEN or len(seen) == round((1 - aside.share) * SIZE)  # all others, in every pass
    assert len(rest) <= round((1 - aside.share) * SIZE)


@pytest.mark.parametrize("kind", ["shuffled", "in order", "last dropped", "weighted", "a worker"])
def test_training_batches_keep_their_usual_size(kind):
    """They are filled up again, for the best LR depends on it."""
    loader = LOADERS[kind]()
    aside = divided(loader)
    for batches in passes(aside, 1 if kind == "a worker" else 3):
        sizes = [len(batch) for batch in batches]
        assert set(sizes[:-1]) == {BATCH}
        assert sizes[-1] == BATCH if loader.drop_last else 0 < sizes[-1] <= BATCH
    assert {batch_size(batch) for batch in aside.scored} == {BATCH}  # some losses depend on it too


def test_a_full_batch_stays_one_though_the_loader_would_drop_it():
    aside = divided(LOADERS["full batch"]())
    assert [[len(batch) for batch in batches] for batches in passes(aside)] == [[160]] * 3
    assert aside.samples == 40


def test_batches_of_an_own_sampler_keep_their_boundaries():
    loader = LOADERS["batch sampler"]()
    aside = divided(loader)
    state = loader.batch_sampler.generator.get_state()
    original = [batch for _ in range(3) for batch in loader.batch_sampler]
    loader.batch_sampler.generator.set_state(state)
    kept = {number for batches in passes(aside, 1) for batch in batches for number in batch}
    loader.batch_sampler.generator.set_state(state)
    expected = [left for batch in original if (left := [number for number in batch if number in kept])]
    assert [batch for batches in passes(aside) for batch in batches] == expected


def test_the_order_is_that_of_the_loader():
    """The same generators decide it: less the samples set aside, training sees what it would have seen."""
    loader = LOADERS["shuffled"]()
    aside = divided(loader)
    orders = []
    for data in (loader, aside.training.data):
        loader.generator.manual_seed(1)
        orders.append([number for _ in range(2) for batch in data for number in numbers(batch)])
    kept = set(orders[1])
    assert orders[1] == [number for number in orders[0] if number in kept]


def test_data_sorted_by_class_are_scored_on_all_classes():
    aside = divided(LOADERS["in order"]())
    scored = np.array([number for batch in aside.scored for number in numbers(batch)])
    assert len(np.unique(scored // (SIZE // 4))) == 4
    assert (
        len(np.unique([number // (SIZE // 4) for batches in passes(aside, 1) for number in batches[0] + batches[-1]])) == 2
    )  # still sorted


@given(
    size=st.integers(3, 400),
    batch=st.integers(1, 70),
    drop_last=st.booleans(),
    shuffle=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_loaders_of_any_size(size, batch, drop_last, shuffle, seed):
    loader = DataLoader(Numbers(size), batch_size=batch, shuffle=shuffle, drop_last=drop_last, generator=generator())
    if len(loader) == 0:
        return
    aside = divided(loader, seed=seed)
    scored = {number for part in aside.scored for number in numbers(part)}
    trained = {number for batches in passes(aside, 2) for part in batches for number in part}
    assert trained
    assert scored
    assert scored.isdisjoint(trained)
    assert 0 < aside.share <= SHARE + 0.5 / size
    assert aside.samples <= MOST_BATCHES * max(batch, ENOUGH // MOST_BATCHES)
    assert {number for part in divided(loader, seed=seed).scored for number in numbers(part)} == scored


def test_of_a_part_of_the_data_set_only_that_part_is_used():
    """One data set behind two loaders, divided into training and validation by their samplers."""
    part = range(50, 150)
    aside = divided(DataLoader(Numbers(), batch_size=10, sampler=SubsetRandomSampler(part, generator())))
    scored = {number for batch in aside.scored for number in numbers(batch)}
    assert scored < set(part)
    assert aside.share == SHARE
    for batches in passes(aside):
        seen = {number for batch in batches for number in batch}
        assert seen < set(part)
        assert scored.isdisjoint(seen)
        assert len(seen) == (1 - SHARE) * len(part)


def test_another_seed_sets_other_samples_aside():
    first, second = (divided(LOADERS["in order"](), seed=seed).scored for seed in (0, 1))
    assert not torch.equal(first[0], second[0])


def test_a_large_data_set_gives_a_few_batches_only():
    aside = divided(DataLoader(Numbers(100_000), batch_size=32))
    assert [batch_size(batch) for batch in aside.scored] == [32] * MOST_BATCHES
    assert aside.share == MOST_BATCHES * 32 / 100_000


def test_a_sampler_that_gives_something_else_than_numbers_falls_back():
    """Tensors, here: they could be told from the numbers set aside by their place in memory only."""
    for loader in (DataLoader(Numbers(), batch_sampler=Buckets()), DataLoader(Numbers(), batch_size=BATCH, sampler=torch.arange(SIZE))):
        aside = divided(loader)
        assert aside.share is None
        assert 1 <= len(aside.scored) <= MOST_BATCHES // 2


def test_a_sampler_of_numbers_from_elsewhere_falls_back():
    class Keyed(Numbers):
        def __getitem__(self, key: int) -> Tensor:
            return torch.tensor(key - 1000)

    assert divided(DataLoader(Keyed(), batch_size=BATCH, sampler=range(1000, 1000 + SIZE))).share is None


@pytest.mark.parametrize("kind", [kind for kind in LOADERS if kind != "a function that collates"])
def test_generators_come_back_bit_for_bit(kind):
    training = make()
    loader = LOADERS[kind]()
    problem = Problem(training.model, training.optimizer, loader, training.criterion)
    before = fingerprint(training.model, training.optimizer, [loader, getattr(loader, "batch_sampler", None)])
    with problem.preserved():
        problem.seed(0)
        list(islice(set_aside(problem.batches, None, 0).training, 3))
    assert_untouched(before, fingerprint(training.model, training.optimizer, [loader, getattr(loader, "batch_sampler", None)]))


# Lists, and single batches --------------------------------------------------------------------------------------------------------


@given(count=st.integers(2, 90), seed=st.integers(0, 100), kind=st.sampled_from([list, tuple]))
def test_of_a_list_some_batches_are_scored_and_the_others_trained_on(count, seed, kind):
    aside = divided(kind(torch.arange(5 * count).split(5)), seed=seed)
    scored = [number for batch in aside.scored for number in numbers(batch)]
    trained = [number for batches in passes(aside, 1) for batch in batches for number in batch]
    assert sorted(scored + trained) == list(range(5 * count))
    assert trained == sorted(trained)  # in their order
    assert len(aside.scored) == max(1, min(round(SHARE * count), MOST_BATCHES))
    assert aside.share == pytest.approx(len(scored) / (5 * count))


Pair = namedtuple("Pair", ["inputs", "target"])
ONE = torch.arange(50)
SINGLE = {
    "tensor": ONE,
    "tuple": (ONE, ONE),
    "list": [ONE, ONE],
    "dict": {"inputs": ONE, "target": ONE},
    "named": Pair(ONE, ONE),
    "nested": ({"inputs": ONE, "name": "text"}, [ONE, torch.tensor(3.0), torch.ones(7)]),
}


def leaves(batch: Any) -> list[Any]:
    if isinstance(batch, dict):
        return [leaf for value in batch.values() for leaf in leaves(value)]
    return [leaf for value in batch for leaf in leaves(value)] if isinstance(batch, (list, tuple)) else [batch]


@pytest.mark.parametrize("kind", SINGLE)
def test_a_single_batch_is_divided_by_its_rows(kind):
    aside = divided([SINGLE[kind]])
    (scored,), (trained,) = aside.scored, list(aside.training.data)
    assert type(scored) is type(trained) is type(SINGLE[kind])
    first = leaves(scored)[0].tolist()
    assert len(first) == aside.samples == SHARE * 50
    assert aside.share == SHARE
    assert sorted(first + leaves(trained)[0].tolist()) == list(range(50))
    for part in (scored, trained):
        for leaf, original in zip(leaves(part), leaves(SINGLE[kind]), strict=True):
            if original is ONE:
                assert leaf.tolist() == leaves(part)[0].tolist()  # rows stay together
            else:
                assert leaf is original  # what has no rows stays whole


@pytest.mark.parametrize("rows", range(10))
def test_a_batch_of_few_rows_is_shared(rows):
    aside = divided([torch.arange(rows)])
    assert aside.share is None
    assert [numbers(batch) for batch in aside.scored] == [numbers(batch) for batch in aside.training.data] == [list(range(rows))]


# Streams, functions, val_data -----------------------------------------------------------------------------------------------------


def test_of_a_stream_the_first_batches_of_every_pass_are_skipped():
    aside = divided(DataLoader(Stream(), batch_size=BATCH))
    scored = [number for batch in aside.scored for number in numbers(batch)]
    assert scored == list(range(MOST_BATCHES // 2 * BATCH))
    for batches in passes(aside):
        assert [number for batch in batches for number in batch] == list(range(len(scored), SIZE))
    assert aside.share is None  # a stream may come in another order each time


@pytest.mark.parametrize("batches", range(2, 12))
def test_a_short_stream_leaves_something_to_train_on(batches):
    aside = divided(DataLoader(Stream(10 * batches), batch_size=10))
    scored = {number for batch in aside.scored for number in numbers(batch)}
    trained = {number for batches in passes(aside, 1) for batch in batches for number in batch}
    assert scored
    assert trained
    assert scored.isdisjoint(trained)
    assert scored | trained == set(range(10 * batches))


def test_a_stream_of_one_batch_is_shared():
    aside = divided(DataLoader(Stream(10), batch_size=10))
    assert aside.share is None
    assert [numbers(batch) for batch in aside.scored] == [numbers(batch) for batch in aside.training.data]


def test_of_a_function_the_first_calls_are_skipped():
    calls = []

    def draw() -> Tensor:
        calls.append(1)
        return torch.tensor([len(calls)])

    aside = divided(draw)
    scored = [number for batch in aside.scored for number in numbers(batch)]
    assert scored == [1, 2, 3, 4]
    calls.clear()
    assert [numbers(batch) for batch in islice(aside.training, 3)] == [[5], [6], [7]]
    assert aside.share is None


def test_batches_drawn_at_random_are_apart_when_every_training_is_seeded_alike():
    def draw() -> Tensor:
        return torch.rand(4)

    before = torch.random.get_rng_state()
    aside = divided(draw, seed=7)
    torch.default_generator.manual_seed(7)
    trained = list(islice(aside.training, 20))
    torch.random.set_rng_state(before)
    assert not any(torch.equal(batch, other) for batch in aside.scored for other in trained)


def test_val_data_are_scored_and_nothing_is_set_aside():
    loader = LOADERS["shuffled"]()
    aside = divided(loader, val_data=torch.arange(1000, 2000).split(10))
    assert (aside.scored_on, aside.share) == ("val_data", 0.0)
    assert [numbers(batch)[0] for batch in aside.scored] == list(range(1000, 1000 + 10 * MOST_BATCHES, 10))
    assert aside.training.data is loader


def test_large_batches_of_val_data_need_not_be_many():
    """As many samples as a few batches of the training, and no more."""
    aside = divided(LOADERS["shuffled"](), val_data=torch.arange(1000).split(MOST_BATCHES * BATCH))
    assert len(aside.scored) == 1


def test_samples_that_cannot_be_counted_are_not():
    class Opaque:
        pass

    assert divided([Opaque() for _ in range(10)]).samples is None


# What find_lr makes of it ---------------------------------------------------------------------------------------------------------

PLAN = {"total_steps": 40, "budget": "standard", "progress": False, "curvature": False}


@pytest.mark.parametrize(
    ("data", "shared"),
    [
        (lambda: make().data, False),
        (trainings.batches, False),
        (lambda: trainings.batches(96), False),
        (lambda: [tuple(part[:9] for part in trainings.batches(96)[0])], True),
        (lambda: lambda: trainings.batches()[3], True),
    ],
    ids=["a loader", "a list", "one batch", "too few rows", "a function"],
)
def test_data_that_cannot_be_divided_raise_a_doubt(data, shared):
    training = make()
    training.data = data()
    found = find_lr(**training.arguments, **PLAN)
    assert found.probes.scored_on == "data"
    assert (found.probes.share is None) == shared
    assert (Doubt.SHARED_SAMPLES in found.doubts) == shared


def test_with_val_data_there_is_no_such_doubt():
    training = make()
    training.data = [tuple(part[:9] for part in trainings.batches(96)[0])]
    found = find_lr(**training.arguments, val_data=trainings.batches(), **PLAN)
    assert (found.probes.scored_on, found.probes.share) == ("val_data", 0.0)
    assert Doubt.SHARED_SAMPLES not in found.doubts
