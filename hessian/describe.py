"""Results and optimizers in words, for prints and titles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from hessian.groups import Group
from hessian.layout import bullets, headline, row, table
from hessian.results import CriticalLR, EigenResult, Estimate, SpectralDensity, StableLR

LABEL = 11  # of the rows of a limit
MOST = 10  # eigenvalues in a print
SHOWN = {"momentum": 0, "dampening": 0, "nesterov": False, "betas": (0.9, 0.999), "alpha": 0.99, "weight_decay": 0, "amsgrad": False}


def describe_optimizer(optimizer: Any) -> str:
    """Class name and the settings that change its limit, such as ``"SGD(momentum=0.9)"``."""
    settings = describe_group(optimizer.param_groups[0])
    groups = f" in {len(optimizer.param_groups)} groups" if len(optimizer.param_groups) > 1 else ""
    return type(optimizer).__name__ + (f"({settings})" if settings else "") + groups


def describe_group(group: Group) -> str:
    """Settings that differ from the usual default."""
    shown = {key: group[key] for key, usual in SHOWN.items() if key in group and group[key] != usual}
    return ", ".join(f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in shown.items())


def describe_limit(limit: StableLR) -> str:
    """The limit, how it came about, every doubt; fits 80 columns."""
    lines = headline(f"largest stable lr {limit.lr:.3g} at these weights ({limit.binding} binds)")
    lines += [line for label, text in limit_rows(limit) for line in row(label, text, LABEL)]
    return "\n".join([*lines, *bullets([doubt.value for doubt in limit.doubts])])


def limit_rows(limit: StableLR) -> Iterator[tuple[str, str]]:
    """Label and text of every line."""
    yield from curvature_rows(limit)
    if limit.noise_lr is not None:
        yield "noise", f"{limit.noise_lr:.3g}: batches disagree about the curvature along the sharpest direction"
    if limit.first_step_lr is not None:
        yield "first step", f"{limit.first_step_lr:.3g}: before the optimizer knows the size of its gradients"
    yield "advice", limit.advice
    if limit.by_parameter:
        yield "sharpest", ", ".join(f"{name} {share:.0%}" for name, share in list(limit.by_parameter.items())[:3])
    batches = f"{limit.num_batches} batch{'es' * (limit.num_batches != 1)} of {limit.batch_size or '?'}"
    yield "valid for", f"{limit.model}, {limit.optimizer}, {batches}, {limit.mode} mode, seed {limit.seed}"


def curvature_rows(limit: StableLR) -> Iterator[tuple[str, str]]:
    if limit.along != "hessian":
        yield "curvature", f"{limit.curvature_lr:.3g}: {limit.formula}, which is {limit.sharpness:.3g}"
        return
    yield "curvature", f"{limit.curvature_lr:.3g}: {limit.formula}, {sharpness_name(limit)} {limit.sharpness:.3g}"
    yield "", accuracy(limit)
    yield "cost", f"{limit.hvps} Hessian-vector products by {limit.method}"


def accuracy(limit: StableLR) -> str:
    share = limit.residual / limit.sharpness
    bound = f", with 99 % probability at most {limit.bound:.3g}" if math.isfinite(limit.bound) else ""
    return f"residual {f'{share:.1%}' if share < 10 else f'x{share:.2g}'}{bound}"


def sharpness_name(limit: StableLR) -> str:
    return "preconditioned sharpness" if limit.preconditioned else "sharpness"


def describe_binding(limit: StableLR) -> str:
    if limit.noise_lr is None or limit.binding == "curvature":
        if not limit.by_parameter:
            return "curvature binds; a warm-up lets it flatten first"
        layer, share = next(iter(limit.by_parameter.items()))
        return f"curvature binds: {layer} holds {share:.0%} of the sharpest direction; a warm-up lets it flatten first"
    doubled = 1 / (1 / limit.curvature_lr + (1 / limit.noise_lr - 1 / limit.curvature_lr) / 2)
    return f"noise binds: doubling the batch buys x{doubled / limit.noise_lr:.2g}"


def describe_eigen(found: EigenResult) -> str:
    count, state = len(found.values), "converged" if found.converged else "not converged"
    lines = headline(f"{count} eigenvalue{'s' * (count != 1)} after {found.hvps} Hessian-vector products, {state}")
    cells = [[f"{value:.5g}", f"{residual:.2g}"] for value, residual in zip(found.values, found.residuals, strict=False)]
    lines += table([["value", "residual"], *cells[:MOST]])
    lines += [f"  and {count - MOST} more"] if count > MOST else []
    if math.isfinite(found.bound):
        lines += row("bound", f"with {found.probability:.0%} probability none lies beyond {found.bound:.5g}")
    if math.isfinite(found.following):
        lines += row("following", f"the next one is near {found.following:.5g}")
    return "\n".join(lines)


def describe_estimate(found: Estimate) -> str:
    error = "" if math.isnan(found.error) else f" +- {found.error:.2g} (one standard error)"
    return "\n".join(headline(f"{found.value:.5g}{error}, from {found.hvps} Hessian-vector products"))


def describe_critical(found: CriticalLR) -> str:
    lines = headline(f"one step first raises the loss at lr {found.lr:.3g} (between {found.low:.3g} and {found.high:.3g})")
    return "\n".join(lines + row("cost", f"{found.forwards} forward passes of one batch"))


def describe_density(found: SpectralDensity) -> str:
    lines = headline(f"spectral density of {found.size:,} eigenvalues from {found.smallest:.3g} to {found.largest:.3g}")
    lines += row("peak", f"most of them near {float(found.grid[np.argmax(found.density)]):.3g}")
    probes = f"{found.num_probes} random directions of {found.steps} steps"
    lines += row("cost", f"{probes}, {found.hvps} Hessian-vector products; Gaussians of width {found.sigma:.2g}")
    return "\n".join(lines)
