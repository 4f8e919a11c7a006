"""The grid of a sweep: ends included, constant ratio or difference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hessian.errors import BadArgument
from lrfinder.ramp import Ramp

starts = st.floats(1e-12, 1e2)
spans = st.floats(1.001, 1e12)
counts = st.integers(2, 400)


@given(starts, spans, counts, st.sampled_from(["exponential", "linear"]))
def test_the_ends_are_exact_and_the_grid_rises(start, span, count, mode):
    lrs = Ramp(start, start * span, count, mode).lrs
    assert lrs.shape == (count,)
    assert lrs.dtype == np.float64
    assert (lrs[0], lrs[-1]) == (start, start * span)
    assert (np.diff(lrs) > 0).all()


@given(starts, spans, counts)
def test_exponential_means_one_ratio(start, span, count):
    lrs = Ramp(start, start * span, count).lrs
    assert lrs[1:] / lrs[:-1] == pytest.approx(span ** (1 / (count - 1)), rel=1e-12)  # powers of numbers up to 1e12: 1e-16 * ln(1e12)


@given(starts, spans, counts)
def test_linear_means_one_difference(start, span, count):
    lrs = Ramp(start, start * span, count, "linear").lrs
    assert np.diff(lrs) == pytest.approx(start * (span - 1) / (count - 1), rel=1e-9, abs=1e-15 * start * span)  # differences cancel digits


def test_decades_by_hand():
    assert Ramp(1e-3, 1e1, 5).lrs == pytest.approx([1e-3, 1e-2, 1e-1, 1.0, 1e1], rel=1e-14)
    assert Ramp(1.0, 3.0, 5, "linear").lrs == pytest.approx([1.0, 1.5, 2.0, 2.5, 3.0], rel=1e-14)


@pytest.mark.parametrize("mode", ["exponential", "linear"])
def test_a_range_without_enough_numbers_in_it_is_refused(mode):
    with pytest.raises(BadArgument, match=r"between start_lr=1\.0 and end_lr=1\.0000000000000002 there are not 3 numbers; widen"):
        Ramp(1.0, 1.0000000000000002, 3, mode)
    assert Ramp(1.0, 1.0000000000000002, 2, mode).lrs.tolist() == [1.0, 1.0000000000000002]
