"""Where an optimizer stops being stable, and which function says so for its class."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

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
        momentum: Of the mini-batch limit (``noise_limit``); None where no formula for it is known.
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
            sharpness: Curvature of the loss along it, without weight decay.
            scale: The value of ``P`` along it.

        Raises:
            ValueError: If the direction does not curve upward.

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

# Their steps do not shrink with the gradient, so at any LR they end up hopping to and fro (docs/formulas.md).
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
    """Register a function ``(param group) -> StabilityLimit`` for optimizer classes, or for names ``"package.Class"``, whose package need
    not be installed. The group also has ``"age"``, the steps the optimizer has made.

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
    """The limit of a class, or of the base that its ``step`` comes from."""
    for base in cls.__mro__:
        key = base if base in LIMITS else f"{base.__module__.partition('.')[0]}.{base.__name__}"
        if key in LIMITS:
            return LIMITS[key] if own_step(base) is own_step(cls) else None
    return None


def own_step(cls: Any) -> Any:
    """Without the profiling wrapper that torch puts around it."""
    return inspect.unwrap(cls.step)
