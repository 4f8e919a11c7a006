"""Model and optimizer in a few words, for titles and reports."""

from __future__ import annotations

from typing import Any

from hessian.groups import Group

SHOWN = {"momentum": 0, "dampening": 0, "nesterov": False, "betas": (0.9, 0.999), "alpha": 0.99, "weight_decay": 0, "amsgrad": False}


def describe_optimizer(optimizer: Any) -> str:
    """Class name and the settings that change its limit, such as ``"SGD(momentum=0.9)"``."""
    name = type(optimizer).__name__
    texts = list(dict.fromkeys(describe_group(group) for group in optimizer.param_groups))
    groups = f" in {len(optimizer.param_groups)} groups" if len(optimizer.param_groups) > 1 else ""
    return f"{name}({texts[0]}){groups}" if texts[0] else f"{name}{groups}"


def describe_group(group: Group) -> str:
    """Settings that differ from the usual default."""
    shown = {key: group[key] for key, usual in SHOWN.items() if key in group and group[key] != usual}
    return ", ".join(f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in shown.items())
