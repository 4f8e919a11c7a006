"""Mini-batch limits against the exact second moments of SGD, closed forms, and dense Hessians of every batch."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from oracles import dense_hessian
from torch import nn
from torch.optim import SGD, Adam

from hessian import CurvatureDoubt, HessianOperator, Problem, batch_sharpness, noise_limit, stable_lr
from hessian.limits import limits_of
from hessian.noise import curvature_variance

RNG = np.random.default_rng(0)
DRAWS = [(float(RNG.uniform(0, 0.98)), float(10 ** RNG.uniform(-2, 2)), float(10 ** RNG.uniform(-3, 3))) for _ in range(150)]


def second_moment_radius(lr, mu, a, v, weight):
    """Spectral radius of the map of (E x^2, E x b, E b^2) by one step ``b <- mu b + weight h x, x <- x - lr b`` with ``h`` of mean ``a``
    and variance ``v``, independent of the past."""
    mean = np.array([[1 - lr * weight * a, -lr * mu], [weight * a, mu]])
    noise = np.array([[-lr * weight, 0.0], [weight, 0.0]])  # what multiplies h - a
    full = np.kron(mean, mean) + v * np.kron(noise, noise)
    spread = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1.0]])  # (xx, xb, bb) -> (xx, xb, bx, bb)
    return max(abs(np.linalg.eigvals(full[[0, 1, 3]] @ spread)))


def exact_limit(mu, a, v, weight=1.0):
    """The LR at which the radius passes one, by bisection to 1e-9; the mean alone grows beyond ``2 (1 + mu) / a / weight``."""
    low, high = 1e-4 / weight / (a / (1 - mu) + v / a / (1 - mu)), 2.2 * (1 + mu) / a / weight
    assert second_moment_radius(low, mu, a, v, weight) < 1 < second_moment_radius(high, mu, a, v, weight)
    while high / low > 1 + 1e-9:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if second_moment_radius(middle, mu, a, v, weight) < 1 else (low, middle)
    return low


def test_the_noise_limit_is_where_the_exact_second_moments_begin_to_grow():
    for mu, a, v in DRAWS:
        # The bisection resolves 1e-9; rounding in eigenvalues of order one, near a root that moves with lr, costs a few digits more.
        assert noise_limit(a, v * a * a, momentum=mu) == pytest.approx(exact_limit(mu, a, v * a * a), rel=1e-6)


def test_without_momentum_it_is_the_closed_form_of_wu_ma_and_e():
    for _, a, v in DRAWS:
        assert noise_limit(a, v) == pytest.approx(2 * a / (a * a + v), rel=1e-12)


def test_an_averaging_momentum_is_a_dampened_one():
    for mu, a, v in DRAWS[:50]:
        found = noise_limit(a, v * a * a, momentum=mu, averaged=True)
        assert found == pytest.approx(exact_limit(mu, a, v * a * a, weight=1 - mu), rel=1e-6)


def test_large_batches_leave_the_curvature_limit_of_the_real_optimizers():
    weight = [nn.Parameter(torch.zeros(1))]
    for optimizer in (
        SGD(weight, lr=1.0, momentum=0.9),
        SGD(weight, lr=1.0, momentum=0.6, dampening=0.6),
        SGD(weight, lr=1.0),
        Adam(weight),
    ):
        limit = limits_of(optimizer)[0]
        assert noise_limit(7.0, 0.0, momentum=limit.momentum, averaged=limit.averaged) == pytest.approx(limit.max_lr(7.0), rel=1e-12)


def test_where_no_formula_holds_none_is_given():
    weight = [nn.Parameter(torch.zeros(1))]
    for settings in ({"momentum": 0.9, "nesterov": True}, {"momentum": 0.9, "dampening": 0.5}):
        assert limits_of(SGD(weight, lr=1.0, **settings))[0].momentum is None


@pytest.mark.parametrize("curvature", [0.0, -1.0, float("nan")])
def test_no_upward_curvature_is_one_sentence(curvature):
    with pytest.raises(ValueError, match=r"^curvature=\S+ is not positive, so there is no limit\.$"):
        noise_limit(curvature, 1.0)


# On a net -----------------------------------------------------------------------------------------------------------------------


def net(count=4, size=6):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    batches = [(torch.randn(size, 3).double(), torch.randn(size, 2).double()) for _ in range(count)]
    return model, batches


def dense(model, batches):
    """Hessian and gradient of every batch."""
    problem = Problem(model, None, batches, nn.MSELoss())
    hessians, gradients = [], []
    for batch in batches:
        hessians.append(dense_hessian(problem, batch))
        parts = torch.autograd.grad(nn.functional.mse_loss(model(batch[0]), batch[1]), list(model.parameters()))
        gradients.append(torch.cat([part.reshape(-1) for part in parts]))
    return problem, hessians, gradients


def test_batch_sharpness_is_the_mean_over_batches():
    model, batches = net()
    problem, hessians, gradients = dense(model, batches)
    values = [float(g @ h @ g / (g @ g)) for h, g in zip(hessians, gradients, strict=True)]
    op = HessianOperator(problem, batches)
    found = batch_sharpness(op)
    assert float(found) == pytest.approx(np.mean(values), rel=1e-10)
    assert found.error == pytest.approx(np.std(values, ddof=1) / 2, rel=1e-10)  # of the mean of four
    assert found.hvps == op.products == 1


@pytest.mark.parametrize("scaled", [False, True])
def test_the_variance_is_that_of_the_dense_products(scaled):
    model, batches = net()
    problem, hessians, _ = dense(model, batches)
    generator = torch.Generator().manual_seed(0)
    n = len(hessians[0])
    direction = nn.functional.normalize(torch.randn(n, generator=generator).double(), dim=0)
    scale = torch.rand(n, generator=generator).double() if scaled else None
    diagonal = torch.eye(n).double() if scale is None else torch.diag(scale)
    products = torch.stack([diagonal @ h @ diagonal @ direction for h in hessians])
    curvature, variance, error = curvature_variance(HessianOperator(problem, batches), direction, scale)
    assert curvature == pytest.approx(float(products.mean(0) @ direction), rel=1e-10)
    assert variance == pytest.approx(float(products.var(0, unbiased=True).sum()), rel=1e-10)
    without = [float(torch.cat([products[:i], products[i + 1 :]]).var(0, unbiased=True).sum()) for i in range(len(products))]
    jackknife = math.sqrt((len(without) - 1) / len(without) * sum((each - np.mean(without)) ** 2 for each in without))
    assert error == pytest.approx(jackknife / variance, rel=1e-9)


def test_copies_of_one_batch_have_no_noise():
    model, batches = net()
    found = stable_lr(model, SGD(model.parameters(), lr=0.1, momentum=0.9), batches[:1] * 3, nn.MSELoss(), tol=1e-8)
    assert found.noise_lr == pytest.approx(found.curvature_lr, rel=1e-6)


def test_a_limit_of_noise_that_comes_from_one_batch_is_doubted():
    model, batches = net(size=3)
    odd = [*batches[:3], tuple(10 * part for part in batches[3])]
    for data, doubted in ((batches, False), (odd, True)):
        found = stable_lr(model, SGD(model.parameters(), lr=0.1, momentum=0.9), data, nn.MSELoss())
        assert found.binding == "noise"
        assert (CurvatureDoubt.NOISE_UNSURE in found.doubts) == doubted
        assert "which many trainings survive" in found.to_html()
    two = stable_lr(model, SGD(model.parameters(), lr=0.1, momentum=0.9), batches, nn.MSELoss(), num_batches=2)
    assert (two.binding, two.doubts) == ("noise", (CurvatureDoubt.NOISE_UNSURE,))
    assert "It is known only roughly." in " ".join(two.explain().split())


@pytest.mark.parametrize(("count", "doubted"), [(8, True), (40, False)])
def test_under_a_preconditioner_a_limit_of_noise_takes_many_batches(count, doubted):
    model, batches = net(count=count, size=3)
    found = stable_lr(model, Adam(model.parameters()), batches, nn.MSELoss(), num_batches=count)
    assert found.binding == "noise"
    assert (CurvatureDoubt.NOISE_UNSURE in found.doubts) == doubted


def test_noise_of_one_batch_is_refused():
    model, batches = net()
    op = HessianOperator(Problem(model, None, batches, nn.MSELoss()), batches[:1])
    for measure in (batch_sharpness, lambda op: curvature_variance(op, torch.ones(op.size).double())):
        with pytest.raises(
            ValueError, match=r"^batch noise needs an operator over at least 2 batches, but this one has 1; pass more batches"
        ):
            measure(op)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_stable_lr_takes_the_smaller_limit_and_says_what_would_move_it(momentum):
    model, batches = net(size=3)
    _, hessians, _ = dense(model, batches)
    found = stable_lr(model, SGD(model.parameters(), lr=0.1, momentum=momentum), batches, nn.MSELoss(), tol=1e-9)

    values, vectors = torch.linalg.eigh(torch.stack(hessians).mean(0))
    products = torch.stack([h @ vectors[:, -1] for h in hessians])
    variance = float(products.var(0, unbiased=True).sum())
    a = float(values[-1])
    expected = exact_limit(momentum, a, variance)
    assert found.curvature_lr == pytest.approx(2 * (1 + momentum) / a, rel=1e-8)
    assert found.noise_lr == pytest.approx(expected, rel=1e-5)  # the eigenvector is known to the root of tol
    assert found.lr == min(found.noise_lr, found.curvature_lr) == found.noise_lr
    assert found.binding == "noise"
    assert f"largest stable lr {found.lr:.3g} at these weights (noise binds)" in str(found)

    gain = float(re.fullmatch(r"noise binds: doubling the batch buys x([\d.]+)", found.advice)[1])
    assert gain == pytest.approx(exact_limit(momentum, a, variance / 2) / expected, rel=0.05)  # two digits are printed


def test_adams_noise_is_measured_in_its_own_geometry():
    model, batches = net()
    _, hessians, gradients = dense(model, batches)
    found = stable_lr(model, Adam(model.parameters(), lr=0.1, eps=1e-2), batches, nn.MSELoss(), tol=1e-9)
    moment = torch.zeros_like(gradients[0])
    for step in range(16):
        moment = 0.999 * moment + 0.001 * gradients[step % 4].square()
    scale = ((moment / (1 - 0.999**16)).sqrt() + 1e-2).rsqrt()
    seen = [scale[:, None] * h * scale for h in hessians]
    values, vectors = torch.linalg.eigh(torch.stack(seen).mean(0))
    variance = float(torch.stack([h @ vectors[:, -1] for h in seen]).var(0, unbiased=True).sum())
    assert found.curvature_lr == pytest.approx(38 / float(values[-1]), rel=1e-8)
    assert found.noise_lr == pytest.approx(exact_limit(0.9, float(values[-1]), variance, weight=0.1), rel=1e-5)
