"""Lanczos and power iteration on known spectra, and on small nets against ARPACK in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import symmetric
from scipy.sparse.linalg import eigsh
from sklearn.datasets import load_digits
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hessian import (
    CurvatureError,
    CurvatureOperator,
    EigenResult,
    HessianOperator,
    PreconditionedOperator,
    Problem,
    lanczos,
    power_iteration,
)
from hessian.operators.base import DenseOperator
from hessian.solvers.krylov import Krylov
from hessian.solvers.lanczos import start_vector
from hessian.solvers.stopping import polynomial_bound, step_count_bound
from hessian.vectors import random_unit

SOLVERS = [lanczos, power_iteration]
ROUNDING = 1e-12  # float64, relative to the largest eigenvalue


def operator(spectrum, seed=0, dtype=torch.float64):
    return DenseOperator(symmetric(spectrum, seed).to(dtype))


def distance(spectrum, value):
    return min(abs(value - entry) for entry in spectrum)


# Known spectra ------------------------------------------------------------------------------------------------------------------

SPECTRA = {
    "positive": [0.5, 1.0, 2.0, 4.0],
    "larger negative beside": [-9.0, 0.5, 1.0, 2.0, 4.0],
    "much larger negative beside": [-300.0, -20.0, 0.5, 1.0, 2.0, 4.0],
    "mirrored": [-4.0, -1.0, 0.0, 1.0, 4.0],
    "mostly zero": [0.0] * 20 + [4.0],
    "the top twice": [-1.0, 2.0, 4.0, 4.0],
    "negative only": [-9.0, -7.0, -4.0, -3.0],
    "all the same": [4.0] * 5,
    "all the same and negative": [-4.0] * 5,
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA)
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_most_positive_eigenvalue_is_found_and_the_residual_bounds_its_error(solver, spectrum, seed):
    found = solver(operator(spectrum, seed), tol=1e-3, max_iter=3000, seed=seed)
    assert abs(found.values[0] - max(spectrum)) <= found.residuals[0] + ROUNDING * max(map(abs, spectrum))
    assert found.values[0] == pytest.approx(max(spectrum), rel=1e-3)  # tol
    assert found.converged
    vector = found.vectors[:, 0]
    assert float(vector.norm()) == pytest.approx(1, abs=ROUNDING)
    residual = float((symmetric(spectrum, seed) @ vector - found.values[0] * vector).norm())
    assert residual == pytest.approx(found.residuals[0], abs=ROUNDING * max(map(abs, spectrum)))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("value", [3.0, -3.0, 0.0, 1e-20, 1e20])
def test_one_dimension(solver, value):
    found = solver(operator([value]))
    assert found.values[0] == pytest.approx(value)
    assert found.converged


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("size", [1, 2, 50])
def test_a_matrix_of_zeros_has_the_eigenvalue_zero(solver, size):
    found = solver(DenseOperator(torch.zeros(size, size)))
    assert found.values.tolist() == [0.0]
    assert found.residuals.tolist() == [0.0]
    assert found.converged
    assert found.hvps == 1


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_products_made_are_counted_and_kept_below_the_most(solver):
    op = operator(np.linspace(-1, 1, 100))
    op @ torch.ones(100)
    found = solver(op, tol=1e-9, max_iter=7)
    assert found.hvps == 7
    assert op.products == 8
    assert not found.converged


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_seed_decides_the_answer(solver):
    op = operator(np.linspace(-1, 1, 100))
    runs = [solver(op, max_iter=5, seed=seed) for seed in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_scale_of_the_operator_does_not_matter(solver):
    spectrum = np.array([-9.0, 0.5, 1.0, 2.0, 4.0])
    small, large = (solver(operator(spectrum * scale), seed=1) for scale in (1e-12, 1e12))
    assert large.values == pytest.approx(small.values * 1e24, rel=1e-9)
    assert small.hvps == large.hvps


values = st.floats(-100, 100).map(lambda value: round(value, 3))
spectra = st.lists(values, min_size=2, max_size=12)


@given(spectra, st.integers(0, 1000), st.integers(1, 12))
def test_some_eigenvalue_lies_within_the_residual(spectrum, seed, products):
    op = operator(spectrum, seed)
    for solver in SOLVERS:
        found = solver(op, max_iter=products, seed=seed)
        rounding = ROUNDING * max(map(abs, spectrum))
        for value, residual in zip(found.values, found.residuals, strict=True):
            assert distance(spectrum, value) <= residual + rounding
        assert found.values[0] <= max(spectrum) + rounding  # a Rayleigh quotient


@given(spectra, st.integers(0, 1000))
def test_lanczos_with_all_products_is_exact(spectrum, seed):
    top = max(spectrum)
    rounding = ROUNDING * max(map(abs, spectrum))
    found = lanczos(operator(spectrum, seed), tol=1e-12, seed=seed)
    assert found.converged
    # An eigenvalue closer than 1e-3 to the top counts as the top: its space may be exhausted first.
    assert abs(found.values[0] - top) <= 1e-5 * max(map(abs, spectrum)) + rounding


@given(spectra, st.integers(0, 1000))
def test_a_converged_power_iteration_has_a_residual_below_tol(spectrum, seed):
    found = power_iteration(operator(spectrum, seed), tol=0.01, max_iter=200, seed=seed)
    met = found.residuals[0] <= 0.01 * abs(found.values[0])
    assert found.converged == met


TIGHT = {
    "a second one close by": [*np.linspace(-1, 0.2, 198), 0.97, 1.0],
    "many at every scale": [*np.zeros(150), *np.geomspace(0.01, 1, 20)],
}


def stopped_below(spectrum):
    """How many of 200 starts end more than ``tol`` below the top."""
    op = DenseOperator(torch.diag(torch.tensor(spectrum, dtype=torch.float64)))
    runs = [lanczos(op, stop="bound", tol=0.01, max_iter=200, seed=seed) for seed in range(200)]
    assert all(run.converged for run in runs)
    return sum(run.values[0] < max(spectrum) / 1.01 for run in runs)


@pytest.mark.parametrize("spectrum", TIGHT.values(), ids=TIGHT)
def test_lanczos_stops_below_the_top_no_more_often_than_promised(spectrum, monkeypatch):
    assert stopped_below(spectrum) <= 6  # one in a hundred: 2 expected at most, more than 6 has a chance of 0.5 %
    monkeypatch.setattr("hessian.solvers.stopping.MISS", 0.3)
    assert 0 < stopped_below(spectrum) <= 60  # the promise is what decides


# Several eigenvalues ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", range(1, 8))
def test_the_k_most_positive_eigenvalues_in_descending_order(k):
    spectrum = [-9.0, -2.0, 0.5, 1.0, 2.0, 4.0, 8.0]
    op = operator(spectrum)
    found = lanczos(op, k, tol=1e-9)
    assert found.values == pytest.approx(sorted(spectrum, reverse=True)[:k], rel=1e-9)
    vectors = found.vectors
    assert vectors.shape == (7, k)
    assert torch.allclose(vectors.T @ vectors, torch.eye(k, dtype=torch.float64), atol=ROUNDING)
    assert torch.allclose(op @ vectors, vectors * torch.tensor(found.values), atol=1e-9 * 9)


def test_more_eigenvalues_than_dimensions_are_all_of_them():
    assert lanczos(operator([1.0, 2.0, 3.0]), 10).values == pytest.approx([3, 2, 1])


def test_a_repeated_eigenvalue_is_found_once():
    found = lanczos(operator([4.0, 4.0, 4.0, 1.0, 1.0]), 4)
    assert found.values == pytest.approx([4, 1])
    assert found.converged
    assert found.hvps == 2  # the Krylov space ends there


@pytest.mark.parametrize("k", [2, 5])
def test_too_few_products_for_k_are_not_converged(k):
    found = lanczos(operator(np.arange(1.0, 30.0)), k, max_iter=2)
    assert len(found.values) == 2
    assert not found.converged


# The start ----------------------------------------------------------------------------------------------------------------------


class Hinted(DenseOperator):
    def __init__(self, matrix, hint):
        super().__init__(matrix)
        self.hint = hint

    def start_hint(self):
        return self.hint


class Diagonal(CurvatureOperator):
    """A spectrum in its own basis: a random start does not care, and a product costs nothing."""

    def __init__(self, spectrum, hint=None):
        super().__init__(len(spectrum), spectrum)
        self.spectrum = spectrum
        self.hint = hint

    def _product(self, vector):
        return self.spectrum * vector

    def start_hint(self):
        return self.hint


def test_a_hint_that_misses_the_top_does_not_hide_it():
    spectrum = torch.tensor([1.0, 2.0, 3.0, 10.0], dtype=torch.float64)
    lower = torch.tensor([0.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    assert lanczos(Hinted(torch.diag(spectrum), lower)).values[0] == pytest.approx(10)
    assert lanczos(Hinted(torch.diag(spectrum), 0 * lower)).values[0] == pytest.approx(10)


@pytest.mark.parametrize("stop", ["gap", "residual"])  # the bound is made for the random half: there a hint cannot shorten the run
def test_a_hint_saves_products(stop):
    matrix = symmetric(np.linspace(-1, 1, 200))
    top = torch.linalg.eigh(matrix)[1][:, -1]
    assert lanczos(Hinted(matrix, top), stop=stop).hvps < lanczos(DenseOperator(matrix), stop=stop).hvps - 5


def test_a_hint_costs_the_bound_next_to_nothing():
    matrix = symmetric(np.linspace(-1, 1, 200))
    runs = []
    for seed in range(20):
        hint = torch.randn(200, generator=torch.Generator().manual_seed(100 + seed), dtype=torch.float64)
        runs.append([lanczos(op, stop="bound", seed=seed).hvps for op in (Hinted(matrix, hint), DenseOperator(matrix))])
    hinted, plain = np.mean(runs, axis=0)
    # Half the share: one doubling of the polynomial, which grows by exp(2 sqrt(tol / spread)) = 1.15 a step.
    assert hinted <= plain + np.log(2) / (2 * np.sqrt(0.01 / 2))


def test_a_start_of_any_length_is_taken_as_it_is():
    op = operator([1.0, 2.0, 4.0])
    start = torch.linalg.eigh(op.matrix)[1][:, 2]
    found = lanczos(op, start=1e5 * start.float())
    assert found.values[0] == pytest.approx(4, rel=1e-6)  # a float32 start
    assert found.hvps <= 2


def test_a_start_with_a_graph_is_taken_without_it():
    start = torch.ones(3, dtype=torch.float64, requires_grad=True)
    for vector in (start, 2 * start):
        found = lanczos(operator([1.0, 2.0, 4.0]), start=vector)
        assert found.values[0] == pytest.approx(4)
        assert not found.vectors.requires_grad


# Refusals -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_product_that_is_not_finite_is_one_sentence(solver, bad):
    matrix = symmetric([1.0, 2.0, 3.0])
    matrix[1, 1] = bad
    with pytest.raises(CurvatureError, match=r"product 1 is not finite; look for infinite gradients .*, or measure in float32"):
        solver(DenseOperator(matrix))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("arguments", [{"tol": 0}, {"tol": -1.0}, {"max_iter": 0}])
def test_a_wrong_argument_is_refused_before_any_product(solver, arguments):
    op = operator([1.0, 2.0])
    with pytest.raises(ValueError, match=next(iter(arguments))):
        solver(op, **arguments)
    assert op.products == 0


def test_no_eigenvalue_at_all_is_refused():
    with pytest.raises(ValueError, match="k=0 is too small; pass at least 1"):
        lanczos(operator([1.0, 2.0]), 0)


class Identity(CurvatureOperator):
    """Returns the very vector it was given."""

    def _product(self, vector):
        return vector


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_operator_that_returns_its_argument_is_not_written_to(solver):
    found = solver(Identity(5, torch.zeros(5, dtype=torch.float64)))
    assert found.values[0] == pytest.approx(1)
    assert float(found.vectors.norm()) == pytest.approx(1)


# Rounding -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_float32_products_cost_float32_digits_only(seed):
    spectrum = [-9.0, *np.linspace(-1, 1, 100), 4.0]
    found = lanczos(operator(spectrum, seed, torch.float32), tol=1e-5, seed=seed)
    assert found.values[0] == pytest.approx(4, rel=1e-5)


def test_zero_beside_negative_eigenvalues_is_zero_in_float32():
    found = lanczos(operator([0.0] * 10 + [-1.0, -3.0, -9.0], dtype=torch.float32), tol=1e-3)
    assert found.values.tolist() == [0.0]


def test_lanczos_goes_on_through_a_space_that_float32_cannot_tell_is_exhausted():
    found = lanczos(operator([4.0] * 50 + [1.0] * 50, dtype=torch.float32), tol=1e-6)
    assert found.values[0] == pytest.approx(4, rel=1e-6)


# Small nets: the stopping rule --------------------------------------------------------------------------------------------------

CE = nn.CrossEntropyLoss()


def mse(output, target):
    return nn.functional.mse_loss(output, nn.functional.one_hot(target, 10).to(output.dtype))


NETS = {
    "softmax regression": (lambda: nn.Linear(64, 10), CE),
    "relu": (lambda: nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)), CE),
    "tanh, squared error": (lambda: nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)), mse),
    "batch norm": (lambda: nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10)), CE),
}


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)


@pytest.mark.parametrize(("make", "criterion"), NETS.values(), ids=NETS)
def test_lanczos_is_never_more_than_tol_below_the_top_on_small_nets(make, criterion, digits):
    inputs, target = digits
    for seed in range(24):
        torch.manual_seed(seed)
        model = make()
        chosen = torch.randperm(len(inputs))[:256]
        x, y = inputs[chosen], target[chosen]
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(50 * (seed % 2)):  # every other net is trained
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
        found = lanczos(HessianOperator(Problem(model, None, [(x, y)], criterion), [(x, y)]), stop="bound", tol=0.01, seed=seed)
        top = true_top(HessianOperator(Problem(model.double(), None, [1], criterion), [(x.double(), y)]), seed)
        assert found.converged
        assert -0.01 <= found.values[0] / top - 1 <= 1e-5, f"seed {seed}"  # never above but for float32
        assert found.hvps < 40


def true_top(op, seed=0):
    start = np.random.default_rng(seed).normal(size=op.size)
    return eigsh(op.to_scipy(), k=1, which="LA", tol=1e-5, v0=start, return_eigenvectors=False)[0]


# The other end ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["full", "low"])
@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA)
def test_the_most_negative_eigenvalue(spectrum, memory):
    found = lanczos(operator(spectrum), which="smallest", memory=memory, tol=1e-3)
    rounding = ROUNDING * max(map(abs, spectrum))
    assert abs(found.values[0] - min(spectrum)) <= found.residuals[0] + rounding
    assert found.values[0] == pytest.approx(min(spectrum), rel=1e-3, abs=rounding)
    assert found.bound <= min(spectrum) + max(found.residuals[0], 1e-9)


def test_the_k_most_negative_in_ascending_order():
    spectrum = [-9.0, -2.0, 0.5, 1.0, 2.0, 4.0, 8.0]
    found = lanczos(operator(spectrum), 3, which="smallest", tol=1e-9)
    assert found.values == pytest.approx([-9.0, -2.0, 0.5])
    assert torch.allclose(operator(spectrum) @ found.vectors, found.vectors * torch.tensor(found.values), atol=1e-8)


def test_the_smallest_is_the_largest_of_the_negated():
    spectrum = np.linspace(-3, 1, 60) ** 3
    down = lanczos(operator(spectrum), which="smallest", seed=2)
    up = lanczos(DenseOperator(-operator(spectrum).matrix), seed=2)
    assert (down.values, down.bound) == (-up.values, -up.bound)
    assert down.hvps == up.hvps


@pytest.mark.parametrize("argument", [{"which": "top"}, {"stop": "never"}, {"memory": "none"}])
def test_an_unknown_choice_is_refused_with_the_known_ones(argument):
    ((name, value),) = argument.items()
    op = operator([1.0, 2.0])
    with pytest.raises(ValueError, match=f"{name}='{value}' is unknown; choose '"):
        lanczos(op, **argument)
    assert op.products == 0


def test_a_start_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match=r"start has shape \(3,\), not \(2,\); pass one flat vector"):
        lanczos(operator([1.0, 2.0]), start=torch.ones(3))


# Low memory ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", ["guarded", "bound", "gap", "residual"])
@pytest.mark.parametrize("seed", range(3))
def test_low_memory_agrees_with_full_memory_while_steps_are_few(seed, stop):
    op = operator([-9.0, *np.linspace(-1, 1, 200), 2.0, 4.0], seed)
    full, low = (lanczos(op, 2, stop=stop, memory=memory, seed=seed, max_iter=25) for memory in ("full", "low"))
    assert low.values == pytest.approx(full.values, rel=1e-9)
    assert low.hvps == full.hvps
    assert low.bound == pytest.approx(full.bound, rel=1e-6)
    assert low.vectors is None
    assert full.vectors.shape == (203, 2)


def test_low_memory_holds_three_vectors():
    op = Diagonal(torch.linspace(-1, 1, 300, dtype=torch.float64))
    krylov = Krylov(op, start_vector(op, 0, None)[0], memory="low")
    for _ in range(40):
        krylov.extend()
        tensors = [*krylov.held, krylov._following]
        held = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors}
        assert sum(storage.nbytes() for storage in held.values()) <= 3 * 300 * 8
    assert sum(map(len, krylov.held)) == 2


class Allocations(TorchDispatchMode):
    """How many numbers every tensor holds that is new, of those as long as a vector."""

    def __init__(self, least):
        super().__init__()
        self.least = least
        self.new = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        found = function(*arguments, **(keywords or {}))
        known = {one.untyped_storage().data_ptr() for one in tree_leaves((arguments, keywords)) if isinstance(one, torch.Tensor)}
        made = [one for one in tree_leaves(found) if isinstance(one, torch.Tensor) and one.untyped_storage().data_ptr() not in known]
        self.new += [one.numel() for one in made if one.numel() >= self.least]
        return found


@pytest.mark.parametrize(("memory", "blocks"), [("full", [4000] * 2), ("offload", [4000] * 2), ("low", [2000])])
def test_a_step_makes_no_vector_but_the_product_and_the_room_for_the_basis(memory, blocks, monkeypatch):
    monkeypatch.setattr("hessian.vectors.CHUNK", 100)
    op = Diagonal(torch.linspace(-1, 1, 1000))
    krylov = Krylov(op, start_vector(op, 0, None)[0], memory=memory)
    with Allocations(1000) as made:
        for _ in range(8):
            krylov.extend()
    assert sorted(made.new) == sorted([1000] * 8 + blocks)


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


@pytest.mark.parametrize("device", DEVICES)
def test_an_offloaded_basis_gives_the_same_values_and_vectors(device):
    op = DenseOperator(symmetric([-9.0, *np.linspace(-1, 1, 200), 2.0, 4.0]).to(device))
    for which in ("largest", "smallest"):
        full, offload = (lanczos(op, 3, which=which, memory=memory, tol=1e-10, stop="residual") for memory in ("full", "offload"))
        close = 0 if device == "cpu" else 1e-12
        assert offload.values == pytest.approx(full.values, rel=close, abs=0)
        assert offload.vectors.device == op.like.device
        assert float((offload.vectors - full.vectors).abs().max()) <= close


@pytest.mark.parametrize("device", DEVICES)
def test_an_offloaded_basis_lies_in_the_hosts_memory_and_is_no_view_of_what_is_worked_on(device):
    op = Seen(torch.linspace(-1, 1, 50, dtype=torch.float64, device=device))
    krylov = Krylov(op, start_vector(op, 0, None)[0], memory="offload")
    for _ in range(10):
        krylov.extend()
    rows = torch.cat(krylov.held)
    assert all(block.device.type == "cpu" for block in krylov.held)
    assert krylov._following.untyped_storage().data_ptr() not in {block.untyped_storage().data_ptr() for block in krylov.held}
    assert float((rows - torch.stack(op.given)).abs().max()) == 0  # what later steps wrote has not reached them
    assert float((rows @ rows.T - torch.eye(10, dtype=torch.float64)).abs().max()) < ROUNDING


class Seen(Diagonal):
    """Keeps a copy of every vector that it was multiplied with."""

    def __init__(self, spectrum):
        super().__init__(spectrum)
        self.given = []

    def _product(self, vector):
        self.given.append(vector.cpu().clone())
        return super()._product(vector)


def test_an_operator_that_returns_its_argument_or_what_it_keeps_is_not_written_to():
    class Kept(CurvatureOperator):
        def __init__(self):
            super().__init__(3, torch.zeros(3))
            self.kept = torch.tensor([1.0, 2.0, 3.0])

        def _product(self, vector):
            return self.kept

    op = Kept()
    preconditioned = PreconditionedOperator(op, torch.full((3,), 2.0), inner=torch.ones(3), outer=torch.ones(3))
    assert (preconditioned @ torch.ones(3)).tolist() == [7.0, 9.0, 11.0]
    for solve in SOLVERS:
        solve(preconditioned, max_iter=4)
        solve(op, max_iter=4)
    assert op.kept.tolist() == [1.0, 2.0, 3.0]
    assert lanczos(DenseOperator(torch.eye(3))).values == pytest.approx([1.0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_long_runs_in_low_memory_see_ghosts_and_still_find_the_extremes(dtype):
    spectrum = [-30.0, *np.linspace(-1, 1, 100), 5.0, 20.0]
    op = operator(spectrum, dtype=dtype)
    accuracy = 1e-5 if dtype == torch.float32 else 1e-9
    for which, value in (("largest", 20.0), ("smallest", -30.0)):
        found = lanczos(op, 3, which=which, memory="low", stop="residual", tol=1e-300, max_iter=90)
        assert found.hvps > 60  # until the residuals of three copies have underflown
        assert found.values[0] == pytest.approx(value, rel=accuracy)
        assert found.values[1] == pytest.approx(value, rel=accuracy)  # a ghost: the very reason for full memory
    assert lanczos(op, 3, stop="residual", tol=1e-300, max_iter=90).values[1] == pytest.approx(5.0, rel=accuracy)


def test_low_memory_may_take_more_steps_than_there_are_dimensions():
    """What rounding did to the basis makes the Ritz values of n steps inexact: the space is not exhausted then."""
    spectrum = np.concatenate([np.linspace(0, 1, 40), [2.0, 4.0]])
    found = lanczos(operator(spectrum), 2, memory="low", stop="residual", tol=1e-300, max_iter=60)
    assert found.hvps == 60
    assert found.values[0] == pytest.approx(4, rel=1e-12)


# Warm starts --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["full", "low"])
@pytest.mark.parametrize("stop", ["gap", "residual"])
def test_the_eigenvector_of_nearby_weights_saves_products(stop, memory):
    spectrum = [-2.0, *np.linspace(-0.5, 0.5, 300), 1.5, 2.0]
    nearby = symmetric(spectrum) + 0.01 * symmetric(np.linspace(-1, 1, 303), seed=1)
    start = lanczos(DenseOperator(symmetric(spectrum)), tol=1e-4).vectors[:, 0]
    cold = [lanczos(DenseOperator(nearby), stop=stop, memory=memory, seed=seed) for seed in range(5)]
    warm = lanczos(DenseOperator(nearby), stop=stop, memory=memory, start=start)
    top = torch.linalg.eigvalsh(nearby)[-1]
    assert warm.values[0] == pytest.approx(float(top), rel=0.01)
    assert warm.hvps <= 3
    assert warm.hvps < min(run.hvps for run in cold) - 2


NEARBY = [-2.0, *np.linspace(-0.5, 0.5, 300), 1.5, 2.0]


@pytest.mark.parametrize("which", ["largest", "smallest"])
@pytest.mark.parametrize("shift", [0.002, 0.02])
def test_an_earlier_result_is_checked_with_a_product_or_two(shift, which):
    """It knows the next eigenvalue, so the residual of one product tells the error: ``residual^2 / gap``."""
    spectrum = np.array(NEARBY) if which == "largest" else -np.array(NEARBY)
    before = lanczos(DenseOperator(symmetric(spectrum)), which=which, tol=1e-4)
    now = DenseOperator(symmetric(spectrum) + shift * symmetric(np.linspace(-1, 1, 303), seed=1))
    warm = lanczos(now, which=which, start=before)
    ends = torch.linalg.eigvalsh(now.matrix)
    assert warm.values[0] == pytest.approx(float(ends[-1] if which == "largest" else ends[0]), rel=0.01)
    assert warm.hvps <= (1 if shift == 0.002 else 3)
    assert warm.converged
    again = lanczos(now, which=which, start=warm)
    assert again.hvps <= warm.hvps
    assert np.isfinite(again.following)


def test_an_earlier_result_that_is_far_off_is_no_shortcut():
    """The spectrum is the same, the directions are not: one product must not do."""
    before = lanczos(DenseOperator(symmetric(NEARBY, seed=0)))
    now = DenseOperator(symmetric(NEARBY, seed=1))
    found = lanczos(now, start=before)
    assert found.hvps > 3
    assert found.values[0] == pytest.approx(2.0, rel=0.01)


def test_several_eigenvectors_of_an_earlier_result_start_together():
    before = lanczos(operator(NEARBY), 3, tol=1e-6)
    found = lanczos(operator(NEARBY), 3, start=before, tol=1e-4)
    assert found.values == pytest.approx([2.0, 1.5, 0.5], rel=1e-3)
    assert found.hvps < before.hvps


@pytest.mark.parametrize("lose", [lambda found: EigenResult.from_dict(found.to_dict()), lambda _: lanczos(operator(NEARBY), memory="low")])
def test_an_earlier_result_without_eigenvectors_is_refused(lose):
    with pytest.raises(ValueError, match=r"start has no eigenvectors \(low memory, or read from a file\); pass a result that has them"):
        lanczos(operator(NEARBY), start=lose(lanczos(operator(NEARBY))))


def test_the_value_that_follows_is_the_next_one():
    assert lanczos(operator([1.0, 2.0, 5.0, 9.0]), 2, tol=1e-9).following == pytest.approx(2.0)
    assert lanczos(operator([1.0, 2.0, 5.0, 9.0]), which="smallest", tol=1e-9).following == pytest.approx(2.0)
    assert np.isnan(lanczos(operator([1.0, 2.0]), 2).following)


def test_a_given_start_promises_no_bound():
    """Nothing about it is random: here it lies in the space of the lower eigenvalues and can never see the top."""
    op = DenseOperator(torch.diag(torch.tensor([1.0, 2.0, 9.0])))
    for stop in ("guarded", "bound", "gap", "residual"):
        found = lanczos(op, stop=stop, start=torch.tensor([0.0, 1.0, 0.0]))
        assert np.isnan(found.bound)


# The bound ----------------------------------------------------------------------------------------------------------------------

BOUNDED = {
    "flat": np.linspace(-1, 1, 400),
    "clustered": np.concatenate([np.linspace(-0.01, 0.01, 380), np.linspace(0.98, 1.0, 20)]),
    "geometric decay": 0.9 ** np.arange(400),
    "a large negative end": np.concatenate([[-50.0, -20.0], np.linspace(-1, 1, 397), [1.3]]),
    "a lonely top": np.concatenate([np.linspace(0, 1, 399), [1.02]]),
}
STARTS = 500
# 500 runs that fail with a chance of 1 % each: more than 13 failures have a chance of 0.1 %.
MOST_FAILURES = 13


def hints(spectrum):
    """None, a hint that lies wrong (the second eigenvector), and one that lies right."""
    unit = torch.eye(len(spectrum), dtype=torch.float64)
    order = np.argsort(spectrum)
    return {"random": None, "wrong hint": unit[order[-2]], "right hint": unit[order[-1]]}


@pytest.mark.parametrize("hint", ["random", "wrong hint", "right hint"])
@pytest.mark.parametrize("spectrum", BOUNDED.values(), ids=BOUNDED)
def test_the_top_lies_above_the_bound_no_more_often_than_stated(spectrum, hint):
    op = Diagonal(torch.tensor(spectrum), hints(spectrum)[hint])
    top = max(spectrum)
    runs = [lanczos(op, stop="bound", seed=seed, max_iter=3 + seed % 6) for seed in range(STARTS)]
    assert sum(run.bound < top for run in runs) <= MOST_FAILURES
    assert all(run.values[0] <= top + 1e-12 for run in runs)
    assert all(run.bound >= run.values[0] for run in runs)
    # It is no empty promise: at six to eight steps it stays within twice the spread.
    assert np.median([run.bound for run in runs if run.hvps >= 6]) - top < 2 * np.ptp(spectrum)


def bound_after_six(op, seed, probability):
    return lanczos(op, stop="bound", seed=seed, max_iter=6, probability=probability).bound


@pytest.mark.parametrize("spectrum", BOUNDED.values(), ids=BOUNDED)
def test_a_bound_with_less_probability_is_tighter_and_fails_no_more_often_than_stated(spectrum):
    op = Diagonal(torch.tensor(spectrum))
    tight, safe = (
        [lanczos(op, stop="bound", seed=seed, max_iter=6, probability=share).bound for seed in range(200)] for share in (0.6, 0.999)
    )
    assert all(a <= b for a, b in zip(tight, safe, strict=True))
    assert sum(bound < max(spectrum) for bound in tight) <= 80 + 21  # 40 % of 200, and three standard deviations


@pytest.mark.parametrize("hinted", [False, True])
@pytest.mark.parametrize("bound", [polynomial_bound, step_count_bound])
@pytest.mark.parametrize("spectrum", BOUNDED.values(), ids=BOUNDED)
def test_either_bound_holds_on_its_own(spectrum, bound, hinted):
    failures = 0
    for seed in range(200):
        op = Diagonal(torch.tensor(spectrum), hints(spectrum)["wrong hint"] if hinted else None)
        krylov = Krylov(op, start_vector(op, seed, None)[0])
        for _ in range(14):
            krylov.extend()
        values = krylov.ritz_pairs()[0]
        found = bound(values, krylov.betas, op.size, 0.01, hinted) if bound is polynomial_bound else bound(values, op.size, 0.01, hinted)
        assert np.isfinite(found)
        failures += found < max(spectrum)
    assert failures <= 8  # 1 % of 200: more than 8 have a chance of 0.02 %


def test_the_polynomial_bound_fails_as_often_as_it_says():
    """Sharp, where the rest of the spectrum is a single point: then ``p`` is known and the share of the top alone decides."""
    spectrum = np.array([0.0] * 200 + [1.0])
    failures = 0
    for seed in range(400):
        krylov = Krylov(Diagonal(torch.tensor(spectrum)), random_unit(201, torch.zeros(1, dtype=torch.float64), seed))
        krylov.extend()
        failures += polynomial_bound(krylov.ritz_pairs()[0], krylov.betas, 201, 0.2, False) < 1
    assert abs(failures - 80) <= 24  # 20 % of 400, within three standard deviations


# FORMULAS 3.3, failure one in a hundred.
STEPS = [(1e5, 0.1, 18), (1e6, 0.1, 20), (1e9, 0.1, 25), (1e6, 0.05, 28), (1e9, 0.05, 36)]


def steps_needed(size: int, accuracy: float, probability: float = 0.99) -> int:
    """Lanczos steps after which the relative error is at most ``accuracy``, whatever the spectrum (Kuczynski and Wozniakowski 1992): for a
    random start vector and a positive semi-definite operator."""
    return math.ceil(0.5 + math.log(1.648 * math.sqrt(size) / (1 - probability)) / (2 * math.sqrt(accuracy)))


@pytest.mark.parametrize(("size", "accuracy", "steps"), STEPS)
def test_steps_needed_are_those_of_kuczynski_and_wozniakowski(size, accuracy, steps):
    assert steps_needed(int(size), accuracy) == steps
    failure = 1.648 * size**0.5 * np.exp(-(accuracy**0.5) * (2 * np.array([steps, steps - 1]) - 1))
    assert failure[0] <= 0.01 < failure[1]


@pytest.mark.parametrize("spectrum", [np.linspace(0, 1, 400), 0.9 ** np.arange(400)], ids=["flat", "decay"])
def test_the_steps_needed_suffice(spectrum):
    op = Diagonal(torch.tensor(spectrum))
    steps = steps_needed(400, 0.05)
    runs = [lanczos(op, stop="residual", tol=1e-12, max_iter=steps, seed=seed) for seed in range(200)]
    assert sum(run.values[0] < 0.95 for run in runs) <= 8  # as above


# The guard ----------------------------------------------------------------------------------------------------------------------


def runs_of(spectrum, stop):
    op = Diagonal(torch.tensor(spectrum))
    return [lanczos(op, stop=stop, max_iter=200, seed=seed) for seed in range(200)]


HIDDEN = {  # a few directions beyond a broad bulk: few random starts have much of a share in them
    "one outlier": np.concatenate([np.linspace(0, 1, 2000) ** 4, [1.5]]),
    "a second one close by": np.concatenate([np.linspace(-1, 0.6, 2000), [0.97, 1.0]]),
}


@pytest.mark.parametrize("spectrum", HIDDEN.values(), ids=HIDDEN)
def test_the_guard_lies_between_the_gap_and_the_bound(spectrum):
    products, low = {}, {}
    for stop in ("gap", "guarded", "bound"):
        runs = runs_of(spectrum, stop)
        products[stop] = np.mean([run.hvps for run in runs])
        low[stop] = sum(run.values[0] < max(spectrum) / (1 + 0.2) for run in runs)
    assert products["gap"] <= products["guarded"] < products["bound"]
    assert low["guarded"] <= 6  # one in a hundred may miss by more than the guard: 2 expected at most, more than 6 has a chance of 0.5 %


def test_without_the_guard_the_gap_misses_what_it_guards_against():
    """The test above can fail: two thirds of the weight on one lower direction make the gap rule stop there."""
    spectrum = torch.tensor(np.concatenate([np.linspace(0, 0.1, 2000), [1.0, 1.5]]))
    hint = torch.zeros(2002, dtype=torch.float64)
    hint[2000] = 1.0
    low = {}
    for stop in ("gap", "guarded"):
        runs = [lanczos(Diagonal(spectrum, hint), stop=stop, seed=seed) for seed in range(100)]
        low[stop] = sum(run.values[0] < 1.2 for run in runs)
    assert low["gap"] > 20
    assert low["guarded"] <= 4


# Small nets: stopping by the gap ------------------------------------------------------------------------------------------------


def conv_net():
    layers = nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Flatten()
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *layers, nn.Linear(128, 10))


def deep_mlp():
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))


@pytest.mark.parametrize("steps", [0, 40], ids=["at the start", "trained"])
@pytest.mark.parametrize("make", [deep_mlp, conv_net])
def test_stopping_by_the_gap_is_never_more_than_tol_below_the_top_on_small_nets(make, steps, digits):
    x, y = (part[:128] for part in digits)
    torch.manual_seed(0)
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        CE(model(x), y).backward()
        optimizer.step()
    op = HessianOperator(Problem(model, None, [(x, y)], CE), [(x, y)])
    top = true_top(op)
    for seed in range(20):
        found = lanczos(op, stop="gap", tol=0.01, seed=seed)
        assert found.converged
        assert -0.01 <= found.values[0] / top - 1 <= 1e-5, f"seed {seed}"  # never above but for float32
