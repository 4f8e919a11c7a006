"""Largest stable LR of an optimizer on a quadratic, one function per optimizer. To add one, write its function here or in your code.

Every limit here is the LR at which an oscillation of period two stops shrinking, so it is fixed by the optimizer's gain for a
gradient that changes sign each step: ``lr < (2 / gain) / curvature``. Derivations are in docs/formulas.md.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from hessian import preconditioner
from hessian.errors import CurvatureError
from hessian.groups import Group
from hessian.preconditioner import Preconditioner


@dataclass(frozen=True, kw_only=True)
class StabilityLimit:
    """Where an optimizer stops being stable along a direction of given curvature.

    Attributes:
        numerator: ``c`` in ``lr < c / curvature``.
        l2: Weight decay that is added to the gradient, hence to the Hessian.
        decoupled: Weight decay applied to the weights directly.
        preconditioner: Reads the diagonal ``P`` off the optimizer's state; None where the gradient is not rescaled.
        momentum: Of the mini-batch limit (``hessian.noise``); None where no formula for it is known.
        averaged: Whether that momentum averages gradients, as Adam's, rather than summing them.
        formula: ``c`` in symbols.
        symbols: Their values in this group.
        source: Where the formula is derived.
    """

    numerator: float
    l2: float = 0.0
    decoupled: float = 0.0
    preconditioner: Preconditioner | None = None
    momentum: float | None = None
    averaged: bool = False
    formula: str = ""
    symbols: Mapping[str, float] = field(default_factory=dict)
    source: str = ""

    def max_lr(self, sharpness: float, *, scale: float = 1.0) -> float:
        """The limit along one direction.

        Args:
            sharpness: Curvature ``h`` of the loss along it, without weight decay.
            scale: The value of ``P`` along it.

        Raises:
            ValueError: If the direction does not curve upward: no bound.

        Example:
            >>> StabilityLimit(numerator=3.8).max_lr(50.0)
            0.076
        """
        curvature = (sharpness + self.l2) / scale + self.decoupled * self.numerator / 2
        if not curvature > 0:
            raise ValueError(f"sharpness={sharpness:g} is no upward curvature, so there is no bound on the learning rate.")
        return self.numerator / curvature


LimitFunction = Callable[[Group], StabilityLimit]
LIMITS: dict[type[Any] | str, LimitFunction] = {}

# Steps of these do not shrink with the gradient, so at any LR they end up hopping to and fro: a floor, never a divergence.
UNBOUNDED = {
    "Lion": "its step is the sign of a mean gradient",
    "SignSGD": "its step is the sign of the gradient",
    "Signum": "its step is the sign of a mean gradient",
    "Muon": "its step is the orthogonal factor of a mean gradient",
    "LAMB": "its step has the length of the weights",
    "Lamb": "its step has the length of the weights",
    "LARS": "its step has the length of the weights",
    "Lars": "its step has the length of the weights",
    "Rprop": "its step is the sign of the gradient, at a size of its own for every weight",
}


def stability_limit(*optimizers: type[Any] | str) -> Callable[[LimitFunction], LimitFunction]:
    """Register a function ``(param group) -> StabilityLimit`` for optimizer classes, or for ``"package.Class"`` names of packages
    that need not be installed. The group also has ``"age"``, the steps the optimizer has made.

    Args:
        optimizers: The classes; a subclass with its own ``step`` is another optimizer.

    Example:
        >>> import torch
        >>> from hessian import StabilityLimit, stability_limit
        >>> class PlainDescent(torch.optim.SGD):
        ...     def step(self, closure=None): ...
        >>> @stability_limit(PlainDescent)
        ... def plain(group):
        ...     return StabilityLimit(numerator=2.0)
    """

    def register(function: LimitFunction) -> LimitFunction:
        LIMITS.update(dict.fromkeys(optimizers, function))
        return function

    return register


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
    """Gradient descent with a decay ``lambd`` on the weights; the average it keeps aside does not feed back."""
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
    decay, decoupled = group["weight_decay"], bool(group.get("decoupled_weight_decay", False))
    return StabilityLimit(
        numerator=2 / gain,
        l2=0.0 if decoupled else decay,
        decoupled=decay if decoupled else 0.0,
        preconditioner=diagonal,
        momentum=momentum,
        averaged=True,
        formula=formula,
        symbols=symbols,
        source="docs/formulas.md#adam-and-its-kin",
    )


@stability_limit(torch.optim.Adam, torch.optim.RAdam)
def adam(group: Group) -> StabilityLimit:
    """``2 (1 + b1) / (1 - b1)`` over the preconditioned sharpness (Cohen et al. 2022, arXiv:2207.14484).

    RAdam is this Adam times a rectification that starts near zero and tends to one; one is taken.
    """
    beta1 = float(group["betas"][0])
    return averaging(group, (1 - beta1) / (1 + beta1), "2 (1 + b1) / (1 - b1)", {"b1": beta1}, preconditioner.adam, beta1)


@stability_limit(torch.optim.AdamW)
def adamw(group: Group) -> StabilityLimit:
    """As Adam, with the decay beside it; before torch 2.7 its groups do not say so."""
    return adam({**group, "decoupled_weight_decay": True})


@stability_limit(torch.optim.Adamax)
def adamax(group: Group) -> StabilityLimit:
    """As Adam, divided by the largest recent gradient in place of the root mean square."""
    beta1 = float(group["betas"][0])
    return averaging(group, (1 - beta1) / (1 + beta1), "2 (1 + b1) / (1 - b1)", {"b1": beta1}, preconditioner.adamax, beta1)


@stability_limit(torch.optim.NAdam)
def nadam(group: Group) -> StabilityLimit:
    """``2 / (1 - m + m (1 - b1) / (1 + b1))`` with torch's slowly rising ``m`` at the optimizer's age; ``m -> b1`` in the end."""
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


def rescaled_descent(diagonal: Preconditioner, group: Group, *, decoupled: bool = False) -> StabilityLimit:
    """Gradient descent in a preconditioned metric."""
    decay = group["weight_decay"]
    return StabilityLimit(
        numerator=2.0,
        l2=0.0 if decoupled else decay,
        decoupled=decay if decoupled else 0.0,
        preconditioner=diagonal,
        momentum=0.0,
        formula="2",
        source="docs/formulas.md#rmsprop-adagrad-adadelta-adafactor",
    )


@stability_limit(torch.optim.Adagrad)
def adagrad(group: Group) -> StabilityLimit:
    """``2`` over the sharpness divided by the root of the summed squares so far: the limit rises with every step."""
    return rescaled_descent(preconditioner.adagrad, group)


@stability_limit(torch.optim.Adadelta)
def adadelta(group: Group) -> StabilityLimit:
    """``2`` in the metric of its two running means, held as they are."""
    return rescaled_descent(preconditioner.adadelta, group)


@stability_limit(torch.optim.Adafactor)
def adafactor(group: Group) -> StabilityLimit:
    """``2`` in the factored metric; its update clipping and its cap of ``1 / sqrt(t)`` on the LR only ever make steps smaller."""
    return rescaled_descent(preconditioner.adafactor, group, decoupled=True)


def schedule_free_gain(group: Group, beta: float) -> tuple[float, dict[str, float]]:
    """Gain of Schedule-Free averaging at the next step: one at the first, ``1 - beta`` in the end (Defazio et al. 2024); its symbols."""
    power, rate = group["weight_lr_power"], float(group["lr_max"]) if group["lr_max"] > 0 else 1.0
    weight: float = float(group["k"] + 1) ** float(group["r"]) * rate ** float(power)
    share = weight / (float(group["weight_sum"]) + weight)
    return (1 - beta) + share * beta / (2 - share), {"b": beta, "c": share}


@stability_limit("schedulefree.SGDScheduleFree")
def schedule_free_sgd(group: Group) -> StabilityLimit:
    """``2 (2 - c) / ((1 - b)(2 - c) + c b)`` with the averaging weight ``c``; it rises from 2 to ``2 / (1 - b)``."""
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
    """The same in Adam's metric; its weight decay passes through the averaging like a gradient."""
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
    """Steps the optimizer has made."""
    by_parameter = (int(state["step"]) for state in optimizer.state.values() if isinstance(state, Mapping) and "step" in state)
    by_group = (int(group["k"]) for group in optimizer.param_groups if isinstance(group.get("k"), int))
    return max((*by_parameter, *by_group), default=0)


def no_limit_sentence(name: str) -> str:
    """Why an optimizer has no limit here, and what to do."""
    cure = "use lrfinder.range_test, or hessian.stable_lr(..., along='update')."
    if name not in UNBOUNDED:
        cure = "use lrfinder.range_test, hessian.stable_lr(..., along='update'), or register one with hessian.stability_limit."
    return f"{no_limit_cause(name)}; {cure}"


def no_limit_cause(name: str) -> str:
    """Why an optimizer has no limit here."""
    if name in UNBOUNDED:
        return f"{name} has no linear stability limit: {UNBOUNDED[name]}, so it does not shrink near a minimum"
    known = ", ".join(sorted(cls if isinstance(cls, str) else cls.__name__ for cls in LIMITS))
    return f"no linear stability limit is known for {name} (known: {known})"


def find_limit(cls: type[Any]) -> LimitFunction | None:
    """The limit of a class or of the base that its ``step`` comes from: a subclass with its own ``step`` is another optimizer."""
    for base in cls.__mro__:
        key = base if base in LIMITS else f"{base.__module__.partition('.')[0]}.{base.__name__}"
        if key in LIMITS:
            return LIMITS[key] if own_step(base) is own_step(cls) else None
    return None


def own_step(cls: Any) -> Any:
    """The ``step`` a class runs, without the profiling wrapper that torch puts around it."""
    return inspect.unwrap(cls.step)
