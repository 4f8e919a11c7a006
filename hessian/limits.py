"""Largest stable LR of an optimizer on a quadratic, one function per optimizer. To add one, write its function here or in your code.

Every limit here is the LR at which an oscillation of period two stops shrinking, so it is fixed by the optimizer's gain for a
gradient that changes sign each step: ``lr < (2 / gain) / curvature``. Derivations are in docs/formulas.md.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
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
        source: Where the formula is derived.
    """

    numerator: float
    l2: float = 0.0
    decoupled: float = 0.0
    preconditioner: Preconditioner | None = None
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
LIMITS: dict[type[Any], LimitFunction] = {}


def stability_limit(*optimizers: type[Any]) -> Callable[[LimitFunction], LimitFunction]:
    """Register a function ``(param group) -> StabilityLimit`` for optimizer classes; also for your own.

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
    return StabilityLimit(numerator=2 / gain, l2=group["weight_decay"], source="docs/formulas.md#sgd")


@stability_limit(torch.optim.Adam)
def adam(group: Group) -> StabilityLimit:
    """``2 (1 + b1) / (1 - b1)`` over the preconditioned sharpness (Cohen et al. 2022, arXiv:2207.14484)."""
    return adam_with_decay(group, decoupled=bool(group.get("decoupled_weight_decay", False)))


@stability_limit(torch.optim.AdamW)
def adamw(group: Group) -> StabilityLimit:
    """Adam's limit with the decay beside it. An older torch does not mark AdamW's groups as decoupled."""
    return adam_with_decay(group, decoupled=True)


def adam_with_decay(group: Group, *, decoupled: bool) -> StabilityLimit:
    """Adam's limit; the decay is part of the gradient or applied to the weights."""
    beta1 = float(group["betas"][0])
    return StabilityLimit(
        numerator=2 * (1 + beta1) / (1 - beta1),
        l2=0.0 if decoupled else group["weight_decay"],
        decoupled=group["weight_decay"] if decoupled else 0.0,
        preconditioner=preconditioner.adam,
        source="docs/formulas.md#adam-and-adamw",
    )


@stability_limit(torch.optim.RMSprop)
def rmsprop(group: Group) -> StabilityLimit:
    """Heavy ball in the preconditioned metric: ``2 (1 + mu)``."""
    return StabilityLimit(
        numerator=2 * (1 + group["momentum"]),
        l2=group["weight_decay"],
        preconditioner=preconditioner.rmsprop,
        source="docs/formulas.md#rmsprop",
    )


def limits_of(optimizer: Any) -> list[StabilityLimit]:
    """The limit of every param group.

    Raises:
        CurvatureError: If no limit is registered for this optimizer.
    """
    function = find_limit(type(optimizer))
    if function is None:
        known = ", ".join(sorted(cls.__name__ for cls in LIMITS))
        raise CurvatureError(
            f"no linear stability limit is known for {type(optimizer).__name__} (known: {known}); "
            "use lrfinder.range_test, or register one with hessian.stability_limit."
        )
    return [function(group) for group in optimizer.param_groups]


def find_limit(cls: type[Any]) -> LimitFunction | None:
    """The limit of a class or of the base that its ``step`` comes from: a subclass with its own ``step`` is another optimizer."""
    for base in cls.__mro__:
        if base in LIMITS:
            return LIMITS[base] if inspect.unwrap(base.step) is inspect.unwrap(cls.step) else None
    return None
