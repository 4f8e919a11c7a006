"""Model and optimizer in a few words, for titles and reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hessian.groups import Group

if TYPE_CHECKING:
    from hessian.results import StableLR

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


def describe_limit(limit: StableLR) -> str:
    """The limit first, then how it came about, then every doubt."""
    name = "preconditioned sharpness" if limit.preconditioned else "sharpness"
    lines = [f"largest stable lr {limit.lr:.3g} at these weights ({limit.binding} binds)"]
    if limit.along == "hessian":
        residual = f"residual {limit.residual / limit.sharpness:.1%}, with 99 % probability at most {limit.bound:.3g}"
        lines.append(f"  curvature  {limit.curvature_lr:.3g}: {limit.formula}, {name} {limit.sharpness:.3g}")
        lines.append(f"             {residual}; {limit.hvps} HVPs by {limit.method}")
    else:
        lines.append(f"  curvature  {limit.curvature_lr:.3g}: {limit.formula}, which is {limit.sharpness:.3g}")
    if limit.noise_lr is not None:
        lines.append(f"  noise      {limit.noise_lr:.3g}: batches disagree about the curvature along the sharpest direction")
    if limit.first_step_lr is not None:
        lines.append(f"  first step {limit.first_step_lr:.3g}: before the optimizer knows the size of its gradients")
    lines.append(f"  advice     {limit.advice}")
    sharpest = ", ".join(f"{name} {share:.0%}" for name, share in list(limit.by_parameter.items())[:3])
    lines.append(f"  sharpest   {sharpest}")
    batches = f"{limit.num_batches} batches of {limit.batch_size or '?'}"
    lines.append(f"  valid for  {limit.model}, {limit.optimizer}, {batches}, {limit.mode} mode, seed {limit.seed}")
    return "\n".join([*lines, *(f"  - {doubt.value}" for doubt in limit.doubts)])


def describe_binding(limit: StableLR) -> str:
    """Which limit binds and what would move it."""
    if limit.noise_lr is None or limit.binding == "curvature":
        layer = next(iter(limit.by_parameter), "")
        share = limit.by_parameter.get(layer, 0.0)
        return f"curvature binds: {layer} holds {share:.0%} of the sharpest direction; a warm-up lets it flatten first"
    doubled = 1 / (1 / limit.curvature_lr + (1 / limit.noise_lr - 1 / limit.curvature_lr) / 2)
    return f"noise binds: doubling the batch buys x{doubled / limit.noise_lr:.2g}"
