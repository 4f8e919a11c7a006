"""Largest stable LR of an optimizer on a quadratic, one function per optimizer.

``lr < (2 / gain) / curvature``, with the optimizer's gain for a gradient that changes sign each step. All are derived in docs/formulas.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from hessian import preconditioner
from hessian.errors import CurvatureError
from hessian.groups import Group
from hessian.preconditioner import Preconditioner
from hessian.registry import StabilityLimit as StabilityLimit  # for users, who reach these two only with the functions below registered
from hessian.registry import find_limit, no_limit_sentence
from hessian.registry import stability_limit as stability_limit


@stability_limit(torch.optim.SGD)
def sgd(group: Group) -> StabilityLimit:
    """Heavy ball ``2 (1 + mu) / (1 - tau)``, Nesterov ``2 (1 + mu) / (1 + 2 mu)`` (Cohen et al. 2021, arXiv:2103.00065)."""
    mu, tau = group["momentum"], group["dampening"] if group["momentum"] else 0.0  # torch ignores dampening without momentum
    gain = (1 + 2 * mu) / (1 + mu) if group["nesterov"] else (1 - tau) / (1 + mu)
    plain_sum, averaging = tau == 0 and not group["nesterov"], tau > 0 and tau == mu
    return StabilityLimit(
        numerator=2 / gain,
        l2=group["weight_decay"],
        momentum=mu if plain_sum or averaging else None,
        averaged=averaging,
        formula="2 (1 + mu) / (1 + 2 mu)" if group["nesterov"] else "2 (1 + mu) / (1 - tau)",
        symbols={"mu": mu} if group["nesterov"] else {"mu": mu, "tau": tau},
        source="docs/formulas.md#sgd",
    )


@stability_limit(torch.optim.ASGD)
def asgd(group: Group) -> StabilityLimit:
    """Gradient descent with a decay ``lambd`` on the weights."""
    return StabilityLimit(
        numerator=2.0,
        l2=group["weight_decay"],
        decoupled=group["lambd"],
        momentum=0.0,
        formula="2",
        source="docs/formulas.md#sgd",
    )


def averaging(
    group: Group, gain: float, formula: str, symbols: Mapping[str, float], diagonal: Preconditioner, momentum: float | None
) -> StabilityLimit:
    """The Adam family: a gain for the averaged gradient, a preconditioner, one of the two kinds of weight decay."""
    return StabilityLimit(
        numerator=2 / gain,
        **{"decoupled" if group.get("decoupled_weight_decay") else "l2": group["weight_decay"]},
        preconditioner=diagonal,
        momentum=momentum,
        averaged=True,
        formula=formula,
        symbols=symbols,
        source="docs/formulas.md#adam-and-its-kin",
    )


@stability_limit(torch.optim.Adam, torch.optim.RAdam)
def adam(group: Group) -> StabilityLimit:
    """``2 (1 + b1) / (1 - b1)`` over the preconditioned sharpness (Cohen et al. 2022, arXiv:2207.14484); RAdam fully rectified."""
    beta1 = float(group["betas"][0])
    return averaging(group, (1 - beta1) / (1 + beta1), "2 (1 + b1) / (1 - b1)", {"b1": beta1}, preconditioner.adam, beta1)


@stability_limit(torch.optim.AdamW)
def adamw(group: Group) -> StabilityLimit:
    """As Adam, with the decay beside it; before torch 2.7 its groups do not say so."""
    return adam({**group, "decoupled_weight_decay": True})


@stability_limit(torch.optim.Adamax)
def adamax(group: Group) -> StabilityLimit:
    return replace(adam(group), preconditioner=preconditioner.adamax)


@stability_limit(torch.optim.NAdam)
def nadam(group: Group) -> StabilityLimit:
    beta1, age = float(group["betas"][0]), int(group.get("age", 0))
    now, following = (beta1 * (1 - 0.5 * 0.96 ** (step * group["momentum_decay"])) for step in (age + 1, age + 2))
    gain = (1 - now) + following * (1 - beta1) / (1 + beta1)
    symbols = {"m": now, "b1": beta1}  # its next step's m is a little larger
    return averaging(group, gain, "2 / (1 - m + m (1 - b1) / (1 + b1))", symbols, preconditioner.adam, None)


@stability_limit(torch.optim.RMSprop)
def rmsprop(group: Group) -> StabilityLimit:
    """Heavy ball in the preconditioned metric: ``2 (1 + mu)``."""
    return StabilityLimit(
        numerator=2 * (1 + group["momentum"]),
        l2=group["weight_decay"],
        preconditioner=preconditioner.rmsprop,
        momentum=group["momentum"],
        formula="2 (1 + mu)",
        symbols={"mu": group["momentum"]},
        source="docs/formulas.md#rmsprop-adagrad-adadelta-adafactor",
    )


def rescaled_descent(diagonal: Preconditioner, group: Group, decay: str = "l2") -> StabilityLimit:
    return StabilityLimit(
        numerator=2.0,
        **{decay: group["weight_decay"]},
        preconditioner=diagonal,
        momentum=0.0,
        formula="2",
        source="docs/formulas.md#rmsprop-adagrad-adadelta-adafactor",
    )


@stability_limit(torch.optim.Adagrad)
def adagrad(group: Group) -> StabilityLimit:
    return rescaled_descent(preconditioner.adagrad, group)


@stability_limit(torch.optim.Adadelta)
def adadelta(group: Group) -> StabilityLimit:
    return rescaled_descent(preconditioner.adadelta, group)


@stability_limit(torch.optim.Adafactor)
def adafactor(group: Group) -> StabilityLimit:
    """Its update clipping and its cap of ``1 / sqrt(t)`` on the LR only ever make steps smaller."""
    return rescaled_descent(preconditioner.adafactor, group, "decoupled")


def schedule_free_gain(group: Group, beta: float) -> tuple[float, dict[str, float]]:
    """Gain of Schedule-Free averaging at the next step: one at the first, ``1 - beta`` in the end (Defazio et al. 2024); its symbols."""
    rate = float(group["lr_max"]) if group["lr_max"] > 0 else 1.0
    weight: float = float(group["k"] + 1) ** float(group["r"]) * rate ** float(group["weight_lr_power"])
    share = weight / (float(group["weight_sum"]) + weight)
    return (1 - beta) + share * beta / (2 - share), {"b": beta, "c": share}


@stability_limit("schedulefree.SGDScheduleFree")
def schedule_free_sgd(group: Group) -> StabilityLimit:
    """It rises from 2 to ``2 / (1 - b)``."""
    gain, symbols = schedule_free_gain(group, group["momentum"])
    return StabilityLimit(
        numerator=2 / gain,
        l2=group["weight_decay"],
        formula="2 (2 - c) / ((1 - b)(2 - c) + c b)",
        symbols=symbols,
        source="docs/formulas.md#schedule-free",
    )


@stability_limit("schedulefree.AdamWScheduleFree")
def schedule_free_adamw(group: Group) -> StabilityLimit:
    gain, symbols = schedule_free_gain(group, float(group["betas"][0]))
    return StabilityLimit(
        numerator=2 / gain,
        decoupled=group["weight_decay"] * gain,
        preconditioner=preconditioner.schedule_free,
        formula="2 (2 - c) / ((1 - b)(2 - c) + c b)",
        symbols=symbols,
        source="docs/formulas.md#schedule-free",
    )


def limits_of(optimizer: Any) -> list[StabilityLimit]:
    """The limit of every param group.

    Raises:
        CurvatureError: If no limit is registered for this optimizer, or it maximizes.
    """
    function = find_limit(type(optimizer))
    if function is None:
        raise CurvatureError(no_limit_sentence(type(optimizer).__name__))
    if any(group.get("maximize") for group in optimizer.param_groups):
        raise CurvatureError(
            f"{type(optimizer).__name__} climbs (maximize=True), where the most negative curvature sets the limit; "
            "minimize the negated loss instead."
        )
    age = optimizer_age(optimizer)
    return [function({**group, "age": age}) for group in optimizer.param_groups]


def optimizer_age(optimizer: Any) -> int:
    by_parameter = (int(state["step"]) for state in optimizer.state.values() if isinstance(state, Mapping) and "step" in state)
    by_group = (int(group["k"]) for group in optimizer.param_groups if isinstance(group.get("k"), int))
    return max((*by_parameter, *by_group), default=0)
