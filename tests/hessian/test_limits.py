"""Every limit against torch's own optimizer, driven to divergence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from limit_cases import LIMIT_CASES
from oracles import HELD, Quadratic, create_state, divergence_threshold, hold, is_divergent, loss_itself, real_step, symmetric
from torch import nn
from torch.optim import SGD, Adam, AdamW, RMSprop

from hessian import CurvatureError, StabilityLimit, limits, stability_limit, stable_lr
from hessian.limits import LIMITS, find_limit, limits_of

CURVATURE = 50.0
# The bisection ends at 0.2 %. An LR that lies 0.2 % beyond the limit makes every step 0.4 % longer or more: e^2 in 500 steps.
TOLERANCE = 5e-3


def tiny(size: int = 1) -> nn.Parameter:
    """A start so small that its gradients add nothing to a held second moment."""
    return nn.Parameter(1e-9 * torch.ones(size, dtype=torch.float64))


@pytest.mark.parametrize("make", LIMIT_CASES.values(), ids=LIMIT_CASES)
def test_limit_is_where_the_real_optimizer_diverges(make):
    predicted, measured = limit_and_threshold(make, HELD)
    assert measured == pytest.approx(predicted, rel=TOLERANCE)


def limit_and_threshold(make, held):
    """The limit along one direction of curvature 50, and the LR at which the real optimizer diverges there."""
    hessian = torch.tensor([[CURVATURE]], dtype=torch.float64)
    optimizer = make([tiny()], lr=1e-6)
    limit = limits_of(optimizer)[0]
    scale = 1.0
    if limit.preconditioner is not None:  # read off the state that a step of the real optimizer has just used
        parameters = optimizer.param_groups[0]["params"]
        create_state(optimizer, parameters)
        hold(optimizer, held)
        real_step(optimizer, parameters, hessian)
        scale = float(limit.preconditioner(optimizer.param_groups[0], optimizer.state[parameters[0]]))
    predicted = limit.max_lr(CURVATURE, scale=scale)
    return predicted, divergence_threshold(lambda lr: is_divergent(make([tiny()], lr=lr), hessian, held), predicted / 2, predicted * 2)


def test_every_limit_of_the_package_has_a_case():
    # A doctest may have registered its own example in this process; it is no attribute of the module.
    shipped = {cls for cls, function in LIMITS.items() if getattr(limits, function.__name__, None) is function}
    assert shipped == {type(make([tiny()], lr=1.0)) for make in LIMIT_CASES.values()}


def test_adams_bias_correction_of_the_second_moment_is_part_of_the_limit():
    # At step 300 the first moment's transient is over (0.9^300 = 2e-14) and the second moment's is not (0.999^300 = 0.74).
    predicted, measured = limit_and_threshold(Adam, {"exp_avg_sq": 0.04, "step": 300.0})
    assert measured == pytest.approx(predicted, rel=TOLERANCE)
    assert predicted == pytest.approx(38 / CURVATURE * (0.04 / (1 - 0.999**301)) ** 0.5, rel=1e-3)


# Through stable_lr, in several dimensions ---------------------------------------------------------------------------------------

SPECTRUM = [1.0, 2.0, 3.0, 5.0, 8.0, 13.0]
ONE = {"lr": 0.1}
MANY_DIMENSIONS = {
    "sgd": (SGD, ONE, {}),
    "sgd momentum": (SGD, {"lr": 0.1, "momentum": 0.9}, {}),
    "sgd lr ratio": (SGD, {"lr": 0.01}, {"lr": 0.1}),
    "sgd large lr first": (SGD, {"lr": 0.3, "momentum": 0.9}, {"lr": 0.1, "momentum": 0.9}),
    "sgd decay per group": (SGD, {"lr": 0.1, "weight_decay": 20}, {"lr": 0.1, "weight_decay": 3}),
    "sgd momentum in one group": (SGD, {"lr": 0.1, "momentum": 0.9}, {"lr": 0.1, "momentum": 0.0}),
    "sgd momentum per group": (SGD, {"lr": 0.1, "momentum": 0.95}, {"lr": 0.03, "momentum": 0.5}),
    "sgd nesterov beside heavy ball": (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}, {"lr": 0.1, "momentum": 0.9}),
    "sgd nesterov beside none": (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}, {"lr": 0.2}),
    "sgd everything per group": (
        SGD,
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 5},
        {"lr": 0.04, "momentum": 0.4, "weight_decay": 30, "nesterov": True},
    ),
    "adam": (Adam, ONE, {}),
    "adam lr ratio, betas, decay": (
        Adam,
        {"lr": 0.1, "betas": (0.9, 0.99), "weight_decay": 3},
        {"lr": 0.02, "betas": (0.5, 0.999), "weight_decay": 9},
    ),
    "adam amsgrad": (Adam, {"lr": 0.1, "amsgrad": True}, {}),
    "adamw": (AdamW, {"lr": 0.1, "weight_decay": 0.5}, {}),
    "adamw decay per group": (AdamW, {"lr": 0.1, "weight_decay": 0.0}, {"lr": 0.1, "weight_decay": 1.0}),
    "adamw everything per group": (
        AdamW,
        {"lr": 0.05, "betas": (0.9, 0.99), "weight_decay": 4.0},
        {"lr": 0.1, "betas": (0.7, 0.999), "weight_decay": 0.3},
    ),
    "rmsprop": (RMSprop, ONE, {}),
    "rmsprop momentum per group, decay, lr ratio": (
        RMSprop,
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 2},
        {"lr": 0.05, "alpha": 0.9, "weight_decay": 8},
    ),
}


def two_groups(cls, first, second, parameters):
    """One group if there is nothing to set apart, else one for each parameter."""
    groups = [{"params": parameters[:1], **first}, {"params": parameters[1:], **second}] if second else [{"params": parameters, **first}]
    return cls(groups, lr=1.0)


@pytest.mark.parametrize(("cls", "first", "second"), MANY_DIMENSIONS.values(), ids=MANY_DIMENSIONS)
def test_stable_lr_is_where_the_real_optimizer_diverges_in_many_dimensions(cls, first, second):
    hessian = symmetric(SPECTRUM, seed=3)
    model = Quadratic(hessian, seed=5)
    optimizer = two_groups(cls, first, second, list(model.parameters()))
    found = stable_lr(model, optimizer, [torch.zeros(1)], loss_fn=loss_itself, tol=1e-6)

    # The gradient was the same in every step of the pre-roll, so the mean of its squares is its square: v = g^2 for certain.
    top = max(group["lr"] for group in optimizer.param_groups)
    ratios = [group["lr"] / top for group in optimizer.param_groups]

    def diverges(lr):
        weights = [nn.Parameter(1e-9 * torch.ones_like(parameter)) for parameter in model.parameters()]
        real = two_groups(cls, first, second, weights)
        for group, ratio in zip(real.param_groups, ratios, strict=True):
            group["lr"] = lr * ratio
        return is_divergent(real, hessian, [(weight, second_moments(model, real, index)) for index, weight in enumerate(weights)])

    assert divergence_threshold(diverges, found.lr / 2, found.lr * 2) == pytest.approx(found.lr, rel=TOLERANCE)


def second_moments(model, optimizer, index):
    """State that holds ``P`` at ``|g|`` for one of the two parameters, ``g`` with the weight decay that is part of it."""
    parameter = list(model.parameters())[index]
    gradient = torch.autograd.grad(model(None), parameter)[0]
    group = optimizer.param_groups[min(index, len(optimizer.param_groups) - 1)]
    if not isinstance(optimizer, AdamW):
        gradient = gradient + group["weight_decay"] * parameter.detach()
    averaged = gradient.square() / (group["betas"][1] if "betas" in group else group.get("alpha", 1))  # the step decays it once
    return {"exp_avg_sq": averaged, "square_avg": averaged, "max_exp_avg_sq": gradient.square(), "step": 1e6}


def test_adam_on_noisy_batches_averages_their_squared_gradients():
    # Two linear regressions on different data; torch is not asked for P, nor for the Hessian.
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(2, 8, 4)), rng.normal(size=(2, 8, 1))
    weights = rng.normal(size=(4, 1))
    model = nn.Linear(4, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(weights.T))
    batches = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in zip(inputs, targets, strict=True)]
    beta1, beta2, eps = 0.9, 0.99, 1e-3
    gradients = [2 * x.T @ (x @ weights - y) / 8 for x, y in zip(inputs, targets, strict=True)]
    moment = np.zeros((4, 1))
    for step in range(16):
        moment = beta2 * moment + (1 - beta2) * gradients[step % 2] ** 2
    scale = np.sqrt(moment / (1 - beta2**16)) + eps
    hessian = sum(2 * x.T @ x / 8 for x in inputs) / 2
    expected = 2 * (1 + beta1) / (1 - beta1) / np.linalg.eigvals(hessian / scale).real.max()

    found = stable_lr(model, Adam(model.parameters(), lr=1e-3, betas=(beta1, beta2), eps=eps), batches, nn.MSELoss(), tol=1e-6)
    assert found.lr == pytest.approx(expected, rel=1e-9)
    assert found.gradients == 16 + 2


def test_centered_rmsprop_takes_the_mean_gradient_off():
    rng = np.random.default_rng(1)
    inputs, targets = rng.normal(size=(2, 8, 3)), rng.normal(size=(2, 8, 1))
    model = nn.Linear(3, 1, bias=False, dtype=torch.float64)
    weights = model.weight.detach().numpy().T
    batches = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in zip(inputs, targets, strict=True)]
    alpha, eps = 0.9, 1e-8
    gradients = [2 * x.T @ (x @ weights - y) / 8 for x, y in zip(inputs, targets, strict=True)]
    second, mean = np.zeros((3, 1)), np.zeros((3, 1))
    for step in range(16):
        second = alpha * second + (1 - alpha) * gradients[step % 2] ** 2
        mean = alpha * mean + (1 - alpha) * gradients[step % 2]
    weight = 1 - alpha**16
    scale = np.sqrt(second / weight - (mean / weight) ** 2) + eps
    hessian = sum(2 * x.T @ x / 8 for x in inputs) / 2
    expected = 2 / np.linalg.eigvals(hessian / scale).real.max()

    optimizer = RMSprop(model.parameters(), lr=1e-3, alpha=alpha, centered=True)
    found = stable_lr(model, optimizer, batches, nn.MSELoss(), tol=1e-6)
    assert found.lr == pytest.approx(expected, rel=1e-9)


# Which limit an optimizer gets --------------------------------------------------------------------------------------------------


class OwnStep(SGD):
    def step(self, closure=None):
        return super().step(closure)


class SameStep(SGD):
    def __init__(self, params, lr):
        super().__init__(params, lr=lr, momentum=0.9)


def test_a_subclass_with_its_own_step_has_no_limit():
    model = Quadratic(symmetric(SPECTRUM))
    with pytest.raises(CurvatureError, match=r"OwnStep .*use lrfinder.range_test, or register one with hessian.stability_limit"):
        stable_lr(model, OwnStep(model.parameters(), lr=0.1), [0], loss_fn=loss_itself)


def test_a_subclass_without_its_own_step_has_the_limit_of_its_base():
    model = Quadratic(symmetric(SPECTRUM))
    found = stable_lr(model, SameStep(model.parameters(), lr=0.1), [0], loss_fn=loss_itself, tol=1e-6)
    assert found.lr == pytest.approx(3.8 / 13, rel=1e-9)


def test_an_unknown_optimizer_is_named_with_the_known_ones():
    model = Quadratic(symmetric(SPECTRUM))
    with pytest.raises(CurvatureError, match=r"known for Adagrad \(known: Adam, AdamW, .*RMSprop, SGD\)"):
        stable_lr(model, torch.optim.Adagrad(model.parameters(), lr=0.1), [0], loss_fn=loss_itself)


def test_a_limit_of_the_user_is_used():
    model = Quadratic(symmetric(SPECTRUM))
    try:

        @stability_limit(OwnStep)
        def half_as_far(group):
            return StabilityLimit(numerator=1.0)

        found = stable_lr(model, OwnStep(model.parameters(), lr=0.1), [0], loss_fn=loss_itself, tol=1e-6)
        assert found.lr == pytest.approx(1 / 13, rel=1e-9)
        assert found.formula == "1 / sharpness"
    finally:
        LIMITS.pop(OwnStep, None)
    assert find_limit(OwnStep) is None


@pytest.mark.parametrize("sharpness", [0.0, -3.0])
def test_no_upward_curvature_is_no_bound(sharpness):
    with pytest.raises(ValueError, match=f"sharpness={sharpness:g} is no upward curvature"):
        StabilityLimit(numerator=2.0).max_lr(sharpness)


def test_decay_alone_bounds_the_learning_rate():
    assert StabilityLimit(numerator=2.0, l2=4.0).max_lr(0.0) == 0.5
    assert StabilityLimit(numerator=2.0, decoupled=4.0).max_lr(0.0) == 0.5  # w shrinks by 1 - lr w: it turns round at lr = 2 / w
