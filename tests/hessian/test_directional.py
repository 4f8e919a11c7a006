"""Limits along one direction, against real steps and closed forms on quadratics."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from oracles import Quadratic, assert_untouched, dense_hessian, fingerprint, loss_itself, symmetric
from torch import nn
from torch.optim import SGD, Adam

from hessian import (
    CriticalLR,
    CurvatureError,
    HessianOperator,
    Problem,
    critical_lr,
    descent_limit,
    online_sharpness,
    secant_lr,
    smith_topin_lr,
    update_direction,
)

SPECTRUM = [1.0, 2.0, 3.0, 5.0, 8.0, 13.0]


def net():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.3), nn.Linear(4, 1)).double()
    batches = [(torch.randn(8, 3).double(), torch.randn(8, 1).double()) for _ in range(2)]
    return model, batches


def flat(model):
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


# The real next update -----------------------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "sgd momentum": lambda first, second: SGD([*first, *second], lr=0.1, momentum=0.9, weight_decay=0.01),
    "adam": lambda first, second: Adam([*first, *second], lr=0.1),
    "groups with ratio": lambda first, second: SGD([{"params": first}, {"params": second, "lr": 0.01}], lr=0.1, momentum=0.5),
    "adam groups": lambda first, second: Adam([{"params": first, "lr": 0.02}, {"params": second}], lr=0.1),
}


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_update_is_that_of_the_real_step(make, steps):
    model = Quadratic(symmetric(SPECTRUM))
    optimizer = make([model.first], [model.second])

    def step():
        optimizer.zero_grad()
        model(None).backward()
        optimizer.step()

    for _ in range(steps):
        step()
    problem = Problem(model, optimizer, [0], loss_fn=loss_itself)
    before = fingerprint(model, optimizer)
    with problem.preserved():
        update = update_direction(problem, 0)
        assert fingerprint(model)["parameter first"] == before["parameter first"]  # the weights are back already
        assert fingerprint(model)["parameter second"] == before["parameter second"]
    assert_untouched(before, fingerprint(model, optimizer))
    start = flat(model)
    step()
    # A step of 0.1 from weights of order one loses a digit of the 16, and the quotient another.
    torch.testing.assert_close((flat(model) - start) / 0.1, update, rtol=1e-12, atol=1e-13)


def test_in_float32_a_small_lr_does_not_round_the_update_away():
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(3.0)
    problem = Problem(model, SGD(model.parameters(), lr=1e-12), [(torch.ones(1, 1), torch.zeros(1, 1))], nn.MSELoss())
    with problem.preserved():
        assert float(update_direction(problem, problem.batches.take(1)[0])) == pytest.approx(-6.0, rel=1e-6)


# The critical LR ----------------------------------------------------------------------------------------------------------------


def linear(batches):
    """Least squares, a quadratic that differs between batches; the losses counted."""
    model = nn.Linear(3, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0, 0.5]]))
    calls = []

    def loss_fn(model, batch):
        calls.append(1)
        return (model(batch[0]) - batch[1]).square().mean()

    return Problem(model, SGD(model.parameters(), lr=0.1), batches, loss_fn=loss_fn), calls


def least_squares_batches():
    torch.manual_seed(3)
    return [(torch.randn(8, 3).double(), torch.randn(8, 1).double()) for _ in range(3)]


def closed_form(problem, batches, update):
    """-2 g'u / u'Hu by dense matrices."""
    weights = flat(problem.model)
    hessian = sum(2 * x.T @ x / len(x) for x, _ in batches) / len(batches)
    gradient = sum(2 * x.T @ (x @ weights - y[:, 0]) / len(x) for x, y in batches) / len(batches)
    return float(-2 * gradient @ update / (update @ hessian @ update))


@pytest.mark.parametrize("resolution", [1 / 16, 1e-6])
@pytest.mark.parametrize("start", [1e-6, 1e-3, 1e3])
def test_the_critical_lr_of_a_quadratic_is_known(resolution, start):
    batches = least_squares_batches()
    problem, calls = linear(batches)
    with problem.preserved():
        update = update_direction(problem, batches[0])
        before = fingerprint(problem.model)
        calls.clear()
        found = critical_lr(problem, batches[:1], update, start=start, resolution=resolution)
        assert_untouched(before, fingerprint(problem.model))
    expected = closed_form(problem, batches[:1], update)
    assert found.low <= expected <= found.high
    assert found.high / found.low <= 1 + resolution
    assert float(found) == found.lr == pytest.approx(expected, rel=resolution / 2 + 1e-12)  # the middle of the interval
    assert found.forwards == len(calls)


def test_a_few_forward_passes_are_enough():
    batches = least_squares_batches()
    problem, calls = linear(batches)
    with problem.preserved():
        update = update_direction(problem, batches[0])
        expected = closed_form(problem, batches[:1], update)
        calls.clear()
        found = critical_lr(problem, batches[:1], update, start=expected / 3)
    # the present loss, start, its doubles 2/3 and 4/3; from a factor of 2 to 1/16 the logarithm halves ceil(log2(11.4)) = 4 times
    assert found.forwards == len(calls) <= 1 + 4 + 4


def test_on_held_aside_batches_it_is_another():
    batches = least_squares_batches()
    problem, calls = linear(batches)
    with problem.preserved():
        update = update_direction(problem, batches[0])
        same = critical_lr(problem, batches[:1], update, resolution=1e-6)
        calls.clear()
        aside = critical_lr(problem, batches[1:], update, resolution=1e-6)
    assert float(aside) == pytest.approx(closed_form(problem, batches[1:], update), rel=1e-6)
    assert abs(float(aside) / float(same) - 1) > 0.05
    assert aside.forwards == len(calls)


def test_batch_norm_dropout_and_the_generators_are_left_alone():
    model, batches = net()
    optimizer = Adam(model.parameters(), lr=0.1)
    problem = Problem(model, optimizer, batches, nn.MSELoss())
    outside = fingerprint(model, optimizer)
    with problem.preserved():
        update = update_direction(problem, batches[0])
        before = fingerprint(model, optimizer)
        first = critical_lr(problem, batches, update)
        assert_untouched(before, fingerprint(model, optimizer))
        assert critical_lr(problem, batches, update) == first  # the same masks
    assert_untouched(outside, fingerprint(model, optimizer))


def test_the_critical_lr_survives_json(tmp_path):
    found = CriticalLR(lr=0.5, low=0.4, high=0.6, forwards=7)
    assert CriticalLR.load(found.save(tmp_path / "critical.json")) == found


def test_a_loss_that_is_not_finite_counts_as_raised():
    model = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        model.weight.fill_(1.0)
    # x - ln x falls towards x = 1 from 0.5, rises beyond, and is NaN below zero: here from 1 to the left
    problem = Problem(model, SGD(model.parameters(), lr=0.1), [0], loss_fn=lambda model, batch: (model.weight + 1).log().sum())
    with problem.preserved():
        found = critical_lr(problem, [0], torch.tensor([-1.0]).double(), resolution=1e-6)
    assert float(found) == pytest.approx(2.0, rel=1e-6)  # log(2 - lr) falls until it is NaN


def one_sentence(error):
    assert re.fullmatch(r"[^\n]+[.?]", str(error.value))
    return str(error.value)


def test_no_critical_lr_is_one_sentence():
    model = Quadratic(symmetric(SPECTRUM))
    problem = Problem(model, SGD(model.parameters(), lr=0.1), [0], loss_fn=loss_itself)
    with problem.preserved():
        update = update_direction(problem, 0)
        with pytest.raises(CurvatureError) as caught:
            critical_lr(problem, [0], -update)
        assert "no learning rate lowers the loss along this update" in one_sentence(caught)
    line = nn.Linear(2, 1)
    problem = Problem(line, SGD(line.parameters(), lr=0.1), [torch.ones(1, 2)], loss_fn=lambda model, batch: model(batch).mean())
    with problem.preserved():
        update = update_direction(problem, torch.ones(1, 2))
        with pytest.raises(CurvatureError) as caught:
            critical_lr(problem, [torch.ones(1, 2)], update)
        assert "the loss still falls at a learning rate of" in one_sentence(caught)


def test_the_descent_limit_is_the_closed_form_on_a_net():
    model, batches = net()
    model.eval()
    problem = Problem(model, None, batches, nn.MSELoss())
    op = HessianOperator(problem, batches[:1])
    hessian, gradient = dense_hessian(problem, batches[0]), op.start_hint()
    update = -gradient
    expected = float(2 * gradient @ gradient / (update @ hessian @ update))
    assert descent_limit(op, gradient, update) == pytest.approx(expected, rel=1e-10)
    with pytest.raises(CurvatureError) as caught:
        descent_limit(op, gradient, gradient)
    assert "does not point downhill" in one_sentence(caught)


# Two gradients ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1e-4, 1e-1, 1e2])
def test_the_secant_of_a_quadratic_has_a_closed_form(step):
    hessian = symmetric(SPECTRUM)
    weights = torch.arange(1.0, 7.0, dtype=torch.float64)
    gradient = hessian @ weights
    ahead = hessian @ (weights - step * gradient)
    expected = float(gradient.abs().sum() / (hessian @ gradient).abs().sum())
    assert secant_lr(gradient, ahead, step) == pytest.approx(expected, rel=1e-10)  # 16 digits, less those of the smallest step's difference
    assert expected >= 1 / 13 / math.sqrt(6)  # |H g|_1 <= sqrt(n) |H g|_2 <= sqrt(n) 13 |g|_1


def test_smith_and_topin_find_the_curvature_where_there_is_no_noise():
    h, lr, weights = 7.0, 0.03, [torch.tensor([2.0]).double()]
    for _ in range(5):
        weights.append(weights[-1] - lr * h * weights[-1])
    assert smith_topin_lr(weights, lr) == pytest.approx(1 / h, rel=1e-12)
    assert secant_lr(h * weights[0], h * weights[1], lr) == pytest.approx(1 / h, rel=1e-12)


def test_under_batch_noise_smith_and_topin_echo_the_lr_and_the_secant_does_not():
    h, generator = 3.0, torch.Generator().manual_seed(0)
    minima = torch.randn(40, 50, generator=generator, dtype=torch.float64)  # every batch has its own minimum: g_B = h (w - m_B)
    rates = np.logspace(-6, -2, 9)
    echoes, secants = [], []
    for lr in rates:
        weights = [torch.zeros(50, dtype=torch.float64)]
        for minimum in minima:
            weights.append(weights[-1] - lr * h * (weights[-1] - minimum))
        echoes.append(smith_topin_lr(weights, float(lr)))
        gradient = h * (weights[0] - minima[0])
        secants.append(secant_lr(gradient, h * (weights[0] - lr * gradient - minima[0]), float(lr)))
    slope = np.polyfit(np.log(rates), np.log(echoes), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.02)
    # E|m0| / E|m1 - m0| = 1 / sqrt(2) of independent Gaussian batches; 2000 draws of it scatter by a few percent
    assert np.array(echoes) / rates == pytest.approx(np.full(9, 1 / math.sqrt(2)), rel=0.1)
    assert secants == pytest.approx([1 / h] * 9, rel=1e-8)


def test_estimates_without_curvature_are_one_sentence():
    line = [torch.tensor([float(step)]) for step in range(3)]
    for call, words in (
        (lambda: secant_lr(torch.ones(2), torch.ones(2), 0.1), "the gradient does not change along itself"),
        (lambda: smith_topin_lr(line, 0.1), "the iterates lie on a line at equal distances"),
        (lambda: smith_topin_lr(line[:2], 0.1), "smith_topin_lr needs 3 consecutive iterates, but got 2"),
    ):
        with pytest.raises(CurvatureError) as caught:
            call()
        assert words in one_sentence(caught)


# LeCun's running mean -----------------------------------------------------------------------------------------------------------


def test_the_online_estimate_converges_to_the_top_eigenvalue_of_noisy_batches():
    spectrum = [0.5, 1.0, 2.0, 3.0, 4.0, 10.0]
    mean = symmetric(spectrum)
    generator = torch.Generator().manual_seed(0)
    calls = []

    def gradient_at(offset):
        if len(calls) % 2 == 0:  # both calls of a step see one batch
            noise = torch.randn(6, 6, generator=generator, dtype=torch.float64)
            calls.append((noise + noise.T) / 2)
        else:
            calls.append(calls[-1])
        return (mean + calls[-1]) @ (offset + 1.0)

    found = online_sharpness(gradient_at, 6, torch.zeros(1, dtype=torch.float64), steps=2000)
    assert len(calls) == 4000
    # A running mean with gamma = 0.003 of curvatures that scatter by 1 is good to sqrt(gamma / 2) = 0.04; gamma was larger before, which
    # tilts the direction by 0.1 and costs half its square. Three standard errors of 10.
    assert found == pytest.approx(10.0, abs=0.15)


def test_the_online_estimate_is_exact_without_noise():
    mean = symmetric([1.0, 2.0, 4.0])
    found = online_sharpness(lambda offset: mean @ offset, 3, torch.zeros(1, dtype=torch.float64), steps=3000)
    # psi follows d psi / dt = (H / |psi| - 1) psi: along the top it settles at 4, others fall at the rate 1 - 2 / 4, and
    # the sum of gamma over the steps is 83
    assert found == pytest.approx(4.0, rel=1e-9)
