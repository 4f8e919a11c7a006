"""What a page about a stability limit says."""

from __future__ import annotations

from collections.abc import Iterator

from hessian.describe import accuracy, sharpness_name
from hessian.layout import capital
from hessian.reports.parts import Picture, Report, Section, Table, doubts_section, settings_section, shares_section
from hessian.results import StableLR

BEYOND = {
    "hessian": "Above it the next steps at these weights diverge, unless the loss gets flatter first.",
    "update": "Above it the next step no longer lowers the loss.",
}

NOISE = (
    "Above it the differences between batches may drive the weights along the sharpest direction, which many trainings survive; above the "
    "limit of curvature the next steps diverge, unless the loss gets flatter first."
)


def limit_report(limit: StableLR) -> Report:
    layers = [shares_section("Sharpest parameters", limit.by_parameter)] if limit.by_parameter else []
    evidence = Table("What was measured", ("Measurement", "Learning rate", "What was seen"), tuple(measured(limit)), numbers=(1,))
    return Report(
        label="Largest stable learning rate",
        number=f"{limit.lr:.2g}",
        lead=(NOISE if limit.binding == "noise" else BEYOND.get(limit.along, ""), f"{capital(limit.advice)}."),
        picture=Picture(
            "The limit on the axis of learning rates",
            f"A dashed line at the curvature limit {limit.curvature_lr:.2g}; everything above it is hatched.",
            lambda ax: limit.plot(ax=ax),
            flat=True,
        ),
        sections=(
            doubts_section(limit.doubts),
            Section("Evidence", (evidence,)),
            *layers,
            settings_section(settings(limit)),
        ),
    )


def measured(limit: StableLR) -> Iterator[tuple[str, str, str]]:
    """Each limit with where it comes from."""
    found = f"{sharpness_name(limit)} {limit.sharpness:.3g}, found by {limit.hvps} Hessian-vector products ({limit.method})"
    seen = f"{limit.formula}\n{found}"
    if limit.along == "hessian":
        seen += f"\n{accuracy(limit)}"
    yield "Curvature", f"{limit.curvature_lr:.3g}", seen
    if limit.noise_lr is not None:
        yield "Batch noise", f"{limit.noise_lr:.3g}", "batches disagree about the curvature along the sharpest direction"
    if limit.first_step_lr is not None:
        yield "First step", f"{limit.first_step_lr:.3g}", "before the optimizer knows the size of its gradients"


def settings(limit: StableLR) -> Iterator[tuple[str, str]]:
    yield "Model", f"{limit.model}, {limit.mode} mode"
    yield "Optimizer", limit.optimizer
    yield "Batches", f"{limit.num_batches} of {limit.batch_size or '?'} samples"
    yield "Tolerance", f"{limit.tol:.2g}, {'reached' if limit.converged else 'not reached'}"
    yield "Seed", str(limit.seed)
    yield "Cost", f"{limit.hvps} Hessian-vector products and {limit.gradients} gradients"
    yield "Exact value", f"{limit.lr:.6g}"
