"""Every limit against torch's own optimizer, driven to divergence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from limit_cases import CURVATURE, LIMIT_CASES, case, measure, measured_case
from oracles import (
    Quadratic,
    assert_untouched,
    create_state,
    divergence_threshold,
    fingerprint,
    hold,
    is_divergent,
    loss_itself,
    real_step,
    symmetric,
)
from schedulefree import AdamWScheduleFree, SGDScheduleFree
from torch import Tensor, nn
from torch.optim import SGD, Adadelta, Adafactor, Adagrad, Adam, Adamax, AdamW, RMSprop
from versions import muon, with_muon

from hessian import CurvatureError, StabilityLimit, limits, stability_limit, stable_lr
from hessian.limits import limits_of
from hessian.registry import LIMITS, UNBOUNDED, find_limit

# The bisection ends at 0.2 %. An LR that lies 0.2 % beyond the limit makes every step 0.4 % longer or more: e^2 in 500 steps.
TOLERANCE = 5e-3


@pytest.mark.parametrize("name", LIMIT_CASES)
def test_limit_is_where_the_real_optimizer_diverges(name):
    found = measured_case(name)
    assert found.measured == pytest.approx(found.predicted, rel=TOLERANCE)


def test_every_limit_of_the_package_has_a_case():
    assert uncovered(LIMITS) == set()


def test_a_registered_limit_without_a_case_is_seen():
    assert uncovered({**LIMITS, "somewhere.Else": limits.adam, SameStep: limits.sgd}) == {"somewhere.Else", SameStep}


def uncovered(registered):
    """Registered keys that no line of the table uses. A doctest may have registered its own example in this process: it is no function
    of the module."""
    shipped = {key for key, function in registered.items() if getattr(limits, function.__name__, None) is function}
    classes = {made.cls for made in LIMIT_CASES.values()}
    return shipped - classes - {f"{cls.__module__.partition('.')[0]}.{cls.__name__}" for cls in classes}


def test_adams_bias_correction_of_the_second_moment_is_part_of_the_limit():
    # At step 300 the first moment's transient is over (0.9^300 = 2e-14) and the second moment's is not (0.999^300 = 0.74).
    found = measure(case(Adam, {"exp_avg_sq": 0.04, "step": 300.0}))
    assert found.measured == pytest.approx(found.predicted, rel=TOLERANCE)
    assert found.predicted == pytest.approx(38 / CURVATURE * (0.04 / (1 - 0.999**301)) ** 0.5, rel=1e-3)


def test_adafactors_limit_falls_short_of_its_cap_or_the_cap_keeps_it_stable():
    # 2 * 0.0316 / 1e-3 / 50 = 1.26 is above 1 / sqrt(1000) = 0.032: no LR makes this optimizer diverge, as its docstring says.
    hessian = torch.tensor([[CURVATURE]], dtype=torch.float64)
    held = {"variance": 1e-3, "step": 1e3}
    assert not is_divergent(Adafactor([nn.Parameter(1e-9 * torch.ones(1, dtype=torch.float64))], lr=100.0), hessian, held)


@pytest.mark.parametrize("moment", [1e-6, 1e-18])  # the second lies under Adafactor's floor of 2.2e-16 for the mean of v
def test_adafactors_factored_limit_of_a_matrix(moment):
    hessian = symmetric([1.0, 3.0, 10.0, 50.0], seed=2)
    held = {
        "row_var": moment * torch.tensor([[0.5], [0.8]], dtype=torch.float64),
        "col_var": moment * torch.tensor([[0.3, 1.0]], dtype=torch.float64),
        "step": 1e3,
    }

    def made(lr):
        return Adafactor([nn.Parameter(1e-22 * torch.ones(2, 2, dtype=torch.float64))], lr=lr)

    optimizer = made(1e-9)
    parameters = optimizer.param_groups[0]["params"]
    create_state(optimizer, parameters)
    hold(optimizer, held)
    real_step(optimizer, parameters, hessian)
    limit = limits_of(optimizer)[0]
    scale = limit.preconditioner(optimizer.param_groups[0], optimizer.state[parameters[0]], parameters[0]).reshape(-1)
    predicted = limit.max_lr(float(torch.linalg.eigvals(hessian / scale[:, None]).real.max()))
    measured = divergence_threshold(lambda lr: is_divergent(made(lr), hessian, held), predicted / 1.5, predicted * 1.5)
    assert measured == pytest.approx(predicted, rel=TOLERANCE)


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
    "adamax": (Adamax, {"lr": 0.1, "weight_decay": 0.5}, {"lr": 0.03, "betas": (0.6, 0.9)}),
    "adagrad": (Adagrad, {"lr": 0.1, "weight_decay": 0.5}, {"lr": 0.2}),
    "adadelta": (Adadelta, {"lr": 1.0}, {"lr": 0.5}),
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

    assert found.noise_lr is None  # one batch: the limit is the curvature's
    assert divergence_threshold(diverges, found.lr / 1.5, found.lr * 1.5) == pytest.approx(found.lr, rel=TOLERANCE)


def second_moments(model, optimizer, index):
    """State that holds ``P`` at ``|g|`` for one of the two parameters, ``g`` with the weight decay that is part of it."""
    parameter = list(model.parameters())[index]
    gradient = torch.autograd.grad(model(None), parameter)[0]
    group = optimizer.param_groups[min(index, len(optimizer.param_groups) - 1)]
    if not isinstance(optimizer, AdamW):
        gradient = gradient + group["weight_decay"] * parameter.detach()
    averaged = gradient.square() / (group["betas"][1] if "betas" in group else group.get("alpha", 1))  # the step decays it once
    held = {"exp_avg_sq": averaged, "square_avg": averaged, "max_exp_avg_sq": gradient.square(), "step": 1e6}
    if isinstance(optimizer, Adamax):
        return {"exp_inf": gradient.abs() / group["betas"][1], "step": 1e6}
    if isinstance(optimizer, Adagrad):
        return {"sum": 16 * gradient.square(), "step": 1e6}  # a sum over the pre-roll, not a mean
    if isinstance(optimizer, Adadelta):
        moment, updates = torch.zeros_like(gradient), torch.zeros_like(gradient)
        for _ in range(16):
            moment = group["rho"] * moment + (1 - group["rho"]) * gradient.square()
            ratio = (updates + group["eps"]) / (moment + group["eps"])
            updates = group["rho"] * updates + (1 - group["rho"]) * ratio * gradient.square()
        return {"square_avg": moment / group["rho"], "acc_delta": updates, "step": 1e6}
    return held


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
    assert found.curvature_lr == pytest.approx(expected, rel=1e-9)
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
    assert found.curvature_lr == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("steps", [0, 1, 3, 40])
def test_schedule_free_gets_the_limit_of_its_age(steps):
    model = Quadratic(symmetric(SPECTRUM))
    optimizer = SGDScheduleFree(model.parameters(), lr=1e-3, momentum=0.9)
    optimizer.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(None).backward()
        optimizer.step()
    before = fingerprint(model, optimizer)
    found = stable_lr(model, optimizer, [0], loss_fn=loss_itself, tol=1e-6)
    c = 1 / (steps + 1)  # a constant LR weighs every step alike
    y, z = np.array([[1 - c, c], [0, 1]]), np.array([[1 - 0.9 * (1 - c), 0], [1, 0]])  # (y, z) <- (y - 13 lr z) (y, z)
    radius = [max(abs(np.linalg.eigvals(y - 13 * found.lr * factor * z))) for factor in (0.999, 1.001)]
    assert radius[0] <= 1 + 1e-12 < radius[1]  # at the first step z stands still: an eigenvalue of one
    assert_untouched(before, fingerprint(model, optimizer))


def test_schedule_free_adamw_is_rolled_and_left_as_it_was():
    model = Quadratic(symmetric(SPECTRUM))
    optimizer = AdamWScheduleFree(model.parameters(), lr=1e-3)
    optimizer.train()
    before = fingerprint(model, optimizer)
    found = stable_lr(model, optimizer, [0], loss_fn=loss_itself, tol=1e-9)
    assert_untouched(before, fingerprint(model, optimizer))
    weights = torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])
    scale = (model.hessian @ weights).abs() + 1e-8
    sharpness = float(torch.linalg.eigvals(model.hessian / scale[:, None]).real.max())
    assert found.lr == pytest.approx(2 / sharpness, rel=1e-8)  # c = 1 at its first step
    assert found.first_step_lr == pytest.approx(found.lr, rel=1e-3)  # one gradient again and again


# Which limit an optimizer gets --------------------------------------------------------------------------------------------------


class OwnStep(SGD):
    def step(self, closure=None):
        return super().step(closure)


class SameStep(SGD):
    def __init__(self, params, lr):
        super().__init__(params, lr=lr, momentum=0.9)


def test_a_subclass_with_its_own_step_has_no_limit():
    model = Quadratic(symmetric(SPECTRUM))
    with pytest.raises(
        CurvatureError, match=r"OwnStep .*use lrfinder.range_test, .*along='update'.*, or register one with hessian.stability_limit"
    ):
        stable_lr(model, OwnStep(model.parameters(), lr=0.1), [0], loss_fn=loss_itself)


def test_a_subclass_without_its_own_step_has_the_limit_of_its_base():
    model = Quadratic(symmetric(SPECTRUM))
    found = stable_lr(model, SameStep(model.parameters(), lr=0.1), [0], loss_fn=loss_itself, tol=1e-6)
    assert found.lr == pytest.approx(3.8 / 13, rel=1e-9)


def test_an_unknown_optimizer_is_named_with_the_known_ones():
    model = Quadratic(symmetric(SPECTRUM))
    known = r"known for OwnStep \(known: ASGD, Adadelta, .*RMSprop, SGD, schedulefree.AdamWScheduleFree, "
    with pytest.raises(CurvatureError, match=known):
        stable_lr(model, OwnStep(model.parameters(), lr=0.1), [0], loss_fn=loss_itself)


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


def test_a_limit_of_the_user_may_be_given_by_name():
    model = Quadratic(symmetric(SPECTRUM))
    name = f"{OwnStep.__module__.partition('.')[0]}.OwnStep"
    try:
        stability_limit(name)(lambda group: StabilityLimit(numerator=1.0 + group["age"]))
        optimizer = OwnStep(model.parameters(), lr=0.1)
        assert stable_lr(model, optimizer, [0], loss_fn=loss_itself, tol=1e-6).lr == pytest.approx(1 / 13, rel=1e-9)
    finally:
        LIMITS.pop(name, None)


@pytest.mark.parametrize("sharpness", [0.0, -3.0])
def test_no_upward_curvature_is_no_bound(sharpness):
    with pytest.raises(ValueError, match=f"sharpness={sharpness:g} is no upward curvature"):
        StabilityLimit(numerator=2.0).max_lr(sharpness)


def test_decay_alone_bounds_the_learning_rate():
    assert StabilityLimit(numerator=2.0, l2=4.0).max_lr(0.0) == 0.5
    assert StabilityLimit(numerator=2.0, decoupled=4.0).max_lr(0.0) == 0.5  # w shrinks by 1 - lr w: it turns round at lr = 2 / w


# No limit, and the limit along the update ---------------------------------------------------------------------------------------


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, algorithm 2."""

    def __init__(self, params, lr, betas=(0.9, 0.99)):
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                p.sub_(group["lr"] * torch.sign(b1 * m + (1 - b1) * p.grad))
                m.mul_(b2).add_(p.grad, alpha=1 - b2)


class OnMatrices(nn.Module):
    """``w' H w / 2`` over two matrices: Muon takes nothing else."""

    def __init__(self, hessian: Tensor) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.a = nn.Parameter(torch.randn(2, 3, generator=generator, dtype=torch.float64))
        self.b = nn.Parameter(torch.randn(2, 2, generator=generator, dtype=torch.float64))
        self.hessian = hessian

    def forward(self, batch):
        flat = torch.cat([self.a.reshape(-1), self.b.reshape(-1)])
        return flat @ self.hessian @ flat / 2


TEN = symmetric([0.1, 0.3, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 11.0], seed=4)


WITHOUT_LIMIT = {"Lion": (Lion, "the sign of a mean gradient"), **with_muon({"Muon": (muon, "the orthogonal factor of a mean gradient")})}


@pytest.mark.parametrize("name", WITHOUT_LIMIT)
def test_an_optimizer_whose_step_does_not_shrink_says_why_it_has_no_limit_and_what_to_do(name):
    model = OnMatrices(TEN)
    make, reason = WITHOUT_LIMIT[name]
    sentence = f"{name} has no linear stability limit: its step is {reason}, .*use lrfinder.range_test, .*along='update'"
    with pytest.raises(CurvatureError, match=sentence):
        stable_lr(model, make(model.parameters(), lr=0.1), [0], loss_fn=loss_itself)


def test_lion_is_not_linearly_unstable_at_any_rate_and_not_stable_either():
    # Its reason, on the optimizer: from far above its LR it comes down to a floor of the LR's size, whatever the curvature.
    for lr in (1e-4, 1.0, 1e4):
        weight = nn.Parameter(torch.tensor([30.5 * lr], dtype=torch.float64))
        optimizer = Lion([weight], lr)
        sizes = []
        for _ in range(300):
            weight.grad = 50.0 * weight.detach()
            optimizer.step()
            sizes.append(abs(float(weight.detach())))
        assert lr / 10 < max(sizes[150:]) < 30.5 * lr
    assert set(UNBOUNDED).isdisjoint(key if isinstance(key, str) else key.__name__ for key in LIMITS)


ALONG = {
    "lion": lambda params, lr: Lion(params, lr),
    **with_muon({"muon": lambda params, lr: muon(params, lr=lr, weight_decay=0.0), "muon decay": lambda params, lr: muon(params, lr=lr)}),
    "sgd": lambda params, lr: SGD(params, lr=lr),
    "sgd nesterov decay": lambda params, lr: SGD(params, lr=lr, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda params, lr: Adam(params, lr=lr),
}


@pytest.mark.parametrize("make", ALONG.values(), ids=ALONG)
def test_the_limit_along_the_update_is_where_one_real_step_stops_lowering_the_loss(make):
    model = OnMatrices(TEN)
    optimizer = make(model.parameters(), 0.1)
    found = stable_lr(model, optimizer, [0], loss_fn=loss_itself, along="update")
    present = model(None).item()

    def step_of(lr):
        copy = OnMatrices(TEN)
        real = make(copy.parameters(), lr)
        copy(None).backward()
        real.step()
        return copy

    # Muon orthogonalises in bfloat16, but the same bits each time: the update is the same function of the same gradient.
    measured = divergence_threshold(lambda lr: step_of(lr)(None).item() >= present, found.lr / 1.5, found.lr * 1.5)
    assert measured == pytest.approx(found.lr, rel=2e-3)  # of the bisection

    before, moved = (torch.cat([p.detach().reshape(-1) for p in net.parameters()]) for net in (model, step_of(1.0)))
    update, gradient = moved - before, TEN @ before
    curvature = float(update @ TEN @ update) / float(-gradient @ update)
    assert found.lr == pytest.approx(2 / curvature, rel=1e-9)
    assert found.sharpness == pytest.approx(curvature, rel=1e-9)
    assert (found.along, found.noise_lr, found.binding) == ("update", None, "curvature")


@pytest.mark.parametrize("make", [SGD, Adam])
def test_the_limit_along_the_update_works_on_layers_that_keep_their_weights(make):
    # Linear layers save their weights for the backward pass: a step made after that would spoil the graph.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    batches = [(torch.randn(8, 4).double(), torch.randn(8, 1).double()) for _ in range(3)]
    found = stable_lr(model, make(model.parameters(), lr=0.1), batches, nn.MSELoss(), along="update")
    assert found.lr > 0
    assert found.num_batches == 3


def test_an_uphill_update_has_no_descent_limit():
    model = OnMatrices(TEN)
    with pytest.raises(CurvatureError, match="next update does not point downhill"):
        stable_lr(model, SGD(model.parameters(), lr=0.1, maximize=True), [0], loss_fn=loss_itself, along="update")


def test_an_update_along_which_the_loss_curves_down_has_no_descent_limit():
    model = OnMatrices(-TEN)
    with pytest.raises(CurvatureError, match="curves downward along the optimizer's next update"):
        stable_lr(model, SGD(model.parameters(), lr=0.1), [0], loss_fn=loss_itself, along="update")


def test_an_optimizer_that_climbs_is_refused():
    model = Quadratic(symmetric(SPECTRUM))
    with pytest.raises(CurvatureError, match=r"SGD climbs \(maximize=True\).*minimize the negated loss"):
        stable_lr(model, SGD(model.parameters(), lr=0.1, maximize=True), [0], loss_fn=loss_itself)
