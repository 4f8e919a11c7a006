"""Trace, Frobenius norm and effective rank on known spectra: right, unbiased, and honest about their errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from oracles import symmetric
from torch import nn

from hessian import GGNOperator, Problem, effective_rank, frobenius_norm, trace
from hessian.operators.base import DenseOperator

SIZE = 120
SPECTRA = {
    "flat": np.linspace(0.5, 1.5, SIZE),
    "decaying": 1 / np.arange(1.0, SIZE + 1) ** 1.5,
    "outliers and a negative end": np.concatenate([np.linspace(-0.5, 0.5, SIZE - 6), [3.0, 5.0, 9.0, 20.0, -4.0, -2.0]]),
    "low rank": np.concatenate([np.zeros(SIZE - 3), [1.0, 2.0, 3.0]]),
}
SEEDS = range(0, 1200, 6)  # an estimate draws from its seed and the few that follow


def operator(spectrum):
    return DenseOperator(symmetric(spectrum))


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


TRUTH = {trace: sum, frobenius_norm: lambda spectrum: float(np.linalg.norm(spectrum))}


@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA)
@pytest.mark.parametrize("estimate", [trace, frobenius_norm])
def test_estimates_are_unbiased_and_their_errors_honest(estimate, spectrum):
    op, truth = operator(spectrum), TRUTH[estimate](spectrum)
    found = [estimate(op, num_products=24, seed=seed) for seed in SEEDS]
    values, errors = np.array([one.value for one in found]), np.array([one.error for one in found])
    assert max(one.hvps for one in found) <= 24
    if values.std() <= 1e-9 * abs(truth):  # Hutch++ of a low rank: the subspace holds everything
        assert values == pytest.approx(truth, rel=1e-9)
        return
    # The mean over 200 seeds lies within four of its own standard errors; the root of an unbiased square has a bias of var / 8 norm^3.
    bias = rms(errors) ** 2 / (2 * truth) if estimate is frobenius_norm else 0.0
    assert abs(values.mean() - truth) <= 4 * values.std() / math.sqrt(len(values)) + 2 * bias
    # The standard error is what the values scatter by: within 25 %, for the spread of 200 values is known to 5 %, that of 8 to 25 %.
    assert rms(errors) == pytest.approx(values.std(), rel=0.25)
    # z-scores of eight probes follow Student's t with 7 degrees of freedom: 1.3 % lie beyond 3.3.
    assert np.mean(np.abs(values - truth) > 3.3 * errors) <= 0.05


def test_hutch_plus_plus_beats_random_signs_alone_where_the_spectrum_decays():
    """Hutchinson's variance is ``2 (|A|_F^2 - sum A_ii^2) / m``; the error of Hutch++ falls like ``1 / m``."""
    spectrum = SPECTRA["decaying"]
    matrix = symmetric(spectrum)
    scatter = 2 * (matrix.square().sum() - matrix.diagonal().square().sum())
    errors = {m: rms([trace(operator(spectrum), num_products=m, seed=seed).value - sum(spectrum) for seed in SEEDS[:60]]) for m in (12, 48)}
    for m, error in errors.items():
        assert error < 0.6 * math.sqrt(scatter / m)
    assert errors[48] < errors[12] / 3  # four times the products: a half for plain signs


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("estimate", [trace, frobenius_norm])
def test_an_operator_smaller_than_the_number_of_products_is_told_exactly(estimate, size):
    spectrum = [-3.0, 0.5, 2.0, 0.0, 7.0][:size]
    found = estimate(operator(spectrum), num_products=6)
    assert found.value == pytest.approx(TRUTH[estimate](spectrum), abs=1e-12)
    assert found.error == 0
    assert found.hvps == size


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 4, 50])
@pytest.mark.parametrize("estimate", [trace, frobenius_norm, effective_rank])
def test_a_matrix_of_zeros_has_none(estimate, size, dtype):
    found = estimate(DenseOperator(torch.zeros(size, size, dtype=dtype)), num_products=12)
    assert (found.value, found.error) == (0.0, 0.0)


def test_the_effective_rank_counts_equal_eigenvalues():
    for rank in (1, 4, 40):
        spectrum = [0.0] * (SIZE - rank) + [2.5] * rank
        assert effective_rank(operator(spectrum), num_products=2 * SIZE).value == pytest.approx(rank, rel=1e-9)  # exact
    found = effective_rank(operator(spectrum), num_products=90)
    assert abs(found.value - 40) <= 4 * found.error
    assert found.error < 8
    assert found.hvps == 90


@pytest.mark.parametrize("name", ["flat", "decaying"])
def test_the_effective_rank_is_within_its_errors(name):
    spectrum = SPECTRA[name]
    truth = sum(spectrum) ** 2 / sum(spectrum**2)
    found = [effective_rank(operator(spectrum), num_products=60, seed=seed) for seed in SEEDS[:100]]
    scores = [(one.value - truth) / one.error for one in found]
    assert rms(scores) == pytest.approx(1, rel=0.4)  # a ratio of estimates: the delta method holds to a few tenths at thirty products


def test_float32_costs_float32_digits_only():
    spectrum = SPECTRA["low rank"]
    found = trace(DenseOperator(symmetric(spectrum).float()), num_products=24)
    assert found.value == pytest.approx(6, rel=1e-4)


def test_a_net_against_its_dense_matrix():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    batch = (torch.randn(20, 6, dtype=torch.float64), torch.randint(3, (20,)))
    op = GGNOperator(Problem(model, None, [batch], nn.CrossEntropyLoss()), [batch])
    matrix = op @ torch.eye(op.size, dtype=torch.float64)
    for estimate, truth in ((trace, matrix.trace()), (frobenius_norm, matrix.norm())):
        found = estimate(op, num_products=60)
        assert abs(found.value - float(truth)) <= 4 * found.error
        assert 0 < found.error < 0.2 * found.value


def test_the_seed_decides():
    op = operator(SPECTRA["flat"])
    assert trace(op, seed=3) == trace(op, seed=3)
    assert trace(op, seed=3) != trace(op, seed=4)


@pytest.mark.parametrize(
    ("estimate", "count", "least"), [(trace, 5, 6), (trace, 0, 6), (frobenius_norm, 1, 2), (effective_rank, 11, 12), (trace, 6.5, None)]
)
def test_too_few_products_are_refused_before_any_is_made(estimate, count, least):
    op = operator([1.0, 2.0])
    if least is None:
        with pytest.raises(TypeError, match=r"num_products=6\.5 is not a whole number"):
            estimate(op, num_products=count)
    else:
        with pytest.raises(ValueError, match=f"num_products={count} is too small; pass at least {least}"):
            estimate(op, num_products=count)
    assert op.products == 0


def test_an_estimate_is_a_number_and_can_be_saved(tmp_path):
    found = trace(operator(SPECTRA["flat"]))
    assert float(found) == found.value
    assert type(found).load(found.save(tmp_path / "trace.json")) == found
