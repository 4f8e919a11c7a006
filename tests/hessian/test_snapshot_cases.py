"""Every kind of thing comes back, after every way to leave; and where what keeps it is taken away, the test sees that."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext

import pytest
import torch
from snapshot_cases import CASES, MODULES, SEEN_BY, take_away

from hessian import preserve

KEEPERS = {name for module in MODULES for name in vars(module) if name.startswith("keep_")}
ALL = pytest.mark.parametrize("make", CASES.values(), ids=CASES)


@contextmanager
def put_right_afterwards():
    """The process must not stay spoiled for the tests that follow, whatever was taken away."""
    with preserve():
        yield


@pytest.mark.parametrize("interruption", [None, ValueError, KeyboardInterrupt])
@ALL
def test_it_is_back(make, interruption):
    case = make()
    before = case.look()
    with nullcontext() if interruption is None else pytest.raises(interruption), preserve(*case.things, keep=case.keep):
        case.spoil()
        assert case.look() != before
        if interruption is not None:
            raise interruption
    assert case.look() == before


@ALL
def test_it_is_back_after_restore_in_between_and_can_be_spoiled_again(make):
    case = make()
    before = case.look()
    with preserve(*case.things, keep=case.keep, snapshot="cpu") as start:
        aside = case.look()  # without gradients
        for _ in range(2):
            case.spoil()
            assert case.look() != before
            start.restore()
            assert (case.look() == aside) is not case.lexical
        case.spoil()
    assert case.look() == before


@pytest.mark.parametrize("keeper", sorted(SEEN_BY))
def test_what_is_not_kept_is_seen(keeper, monkeypatch):
    with put_right_afterwards(), monkeypatch.context() as taken:
        case = CASES[SEEN_BY[keeper]]()
        before = case.look()
        guard = preserve(*case.things, keep=case.keep)
        take_away(taken, keeper)
        with guard:
            case.spoil()
        assert case.look() != before


def test_whoever_keeps_something_has_a_case_that_sees_it():
    assert set(SEEN_BY) == KEEPERS
    assert set(SEEN_BY.values()) <= set(CASES)


def test_taking_nothing_away_leaves_nothing_to_see():
    """The other half of the test above: it is the keeper that makes the difference."""
    for name in sorted(set(SEEN_BY.values())):
        case = CASES[name]()
        before = case.look()
        with preserve(*case.things, keep=case.keep):
            case.spoil()
        assert case.look() == before, name


def test_the_storage_of_a_tensor_stays_where_it_is():
    model = torch.nn.Linear(2, 2)
    place = model.weight.data_ptr()
    with preserve(model):
        model.double()
    assert model.weight.data_ptr() == place
