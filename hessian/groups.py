"""Learning rates of param groups: a result reports that of the largest, and the others follow at the ratio of the base LRs."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import ismethod
from types import MethodType
from typing import Any

from hessian.errors import BadArgument

Group = dict[str, Any]


def base_lrs(optimizer: Any) -> list[float]:
    """LR of every group before any scheduler changed it (0.0 is common at step 0 of a warm-up)."""
    return [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]


def lr_ratios(optimizer: Any) -> list[float]:
    """Every group's base LR over the largest one.

    Raises:
        BadArgument: If no group has a positive base LR, or one is negative or not finite.
    """
    base = base_lrs(optimizer)
    top = max(base)
    if not (0 < top < float("inf")) or min(base) < 0:
        raise BadArgument(f"the optimizer's base learning rates are {base}, which give the groups no ratio; create it with a positive lr.")
    return [lr / top for lr in base]


class Together:
    """Several optimizers as one: the param groups of all, whose LRs keep their ratio."""

    def __init__(self, optimizers: Sequence[Any]) -> None:
        self.optimizers = optimizers

    @property
    def param_groups(self) -> list[Group]:
        """Those there are now."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]


def write_lr(optimizer: Any, lr: float, ratios: Sequence[float]) -> None:
    """Give the largest group ``lr`` and every other its share; numbers stay numbers, and tensors the same tensors."""
    for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
        if type(group["lr"]) is float or not hasattr(group["lr"], "fill_"):
            group["lr"] = lr * ratio
        else:  # a tensor LR is captured by reference in graphs: fill it, never replace it
            group["lr"].fill_(lr * ratio)


def set_lr(optimizer: Any, lr: float, ratios: Sequence[float]) -> None:
    """``write_lr`` for an LR that varies from step to step."""
    let_vary(optimizer)
    write_lr(optimizer, lr, ratios)


def let_vary(optimizer: Any) -> None:
    """No step may be compiled anew for each LR; inside ``preserved``."""
    for owner in optimizer.optimizers if isinstance(optimizer, Together) else [optimizer]:
        if hasattr(owner, "step"):
            run_uncompiled(owner)


def run_uncompiled(optimizer: Any) -> None:
    """Put the plain ``step`` in place of a compiled one, which ``preserved`` puts back.

    Numbers are compiled into a step, so every new LR would compile it anew, until ``torch.compile`` gives up for good. A tensor is not,
    and a ``capturable`` step cannot run otherwise on a CPU.
    """
    step = optimizer.step
    if is_compiled(step) and not all(hasattr(group["lr"], "fill_") or group.get("capturable") for group in optimizer.param_groups):
        plain = step._torchdynamo_orig_callable
        optimizer.step = MethodType(plain, optimizer) if ismethod(step) else plain


def is_compiled(step: Any) -> bool:
    """Whether ``torch.compile`` made it. What is kept out of compilation, or wrapped around a compiled function, has the same mark."""
    if not hasattr(step, "_torchdynamo_orig_callable") or getattr(step, "_torchdynamo_disable", False):
        return False
    function = getattr(step, "__func__", step)
    around = hasattr(getattr(function, "__wrapped__", None), "_torchdynamo_orig_callable")  # torch 2.6 has no id to tell it by
    return not around and bool(getattr(function, "_torchdynamo_wrapper_id", id(function)) == id(function))
