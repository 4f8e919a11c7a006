"""How a curvature limit came about, in words, with the formulas filled in."""

from __future__ import annotations

import math

from hessian.describe import describe_binding, sharpness_name
from hessian.doubts import CurvatureDoubt
from hessian.layout import bullets, capital, formula, headline, paragraph, shortened, table, wrapped
from hessian.results import StableLR

LARGEST_SHARES = 5


def explain_limit(limit: StableLR) -> str:
    lines = headline(f"lr {limit.lr:.3g} is the largest that is stable at these weights ({limit.binding} binds).")
    return "\n".join([*lines, *limit_story(limit), *settings_story(limit)])


def limit_story(limit: StableLR) -> list[str]:
    """Curvature, batch noise, first step, layers: one paragraph each."""
    return [*curvature_part(limit), *noise_part(limit), *first_step_part(limit), *layers_part(limit)]


def curvature_part(limit: StableLR) -> list[str]:
    if limit.along != "hessian":
        return along_update(limit)
    text = (
        f"The loss curves most along one direction of the weights. Its curvature, the {sharpness_name(limit)}, is {limit.sharpness:.4g}, "
        f"measured by {limit.hvps} Hessian-vector products over {batches_of(limit)}. Along it {limit.optimizer} stops shrinking an "
        "oscillation at"
    )
    filled = limit.formula.replace("sharpness", f"{limit.sharpness:.4g}")
    lines = [*paragraph(text), *formula(f"lr = {limit.formula} = {filled} = {limit.curvature_lr:.3g}")]
    if limit.derivation:
        numerator = limit.formula.partition(" / ")[0]
        lines += wrapped("where, derived in docs/formulas.md,") + formula(f"{numerator} = {limit.derivation}")
    if limit.preconditioned:
        lines += wrapped(
            "Preconditioned: the optimizer divides each weight's gradient by its usual size, so curvature is taken in that metric."
        )
    return [*lines, *certainty(limit)]


def along_update(limit: StableLR) -> list[str]:
    """The limit along one update."""
    text = (
        f"Measured along the next update of {limit.optimizer} only, over {batches_of(limit)}: a step of that direction lowers the loss "
        "up to twice its distance to the minimum, at"
    )
    return [*paragraph(text), *formula(f"lr = {limit.formula} = 2 / {limit.sharpness:.4g} = {limit.curvature_lr:.3g}")]


def batches_of(limit: StableLR) -> str:
    """What was averaged over."""
    many = "1 batch" if limit.num_batches == 1 else f"{limit.num_batches} batches"
    return f"{many} of {limit.batch_size} samples" if limit.batch_size else many


def certainty(limit: StableLR) -> list[str]:
    """How far off the sharpness may be."""
    share = limit.residual / limit.sharpness
    text = f"Some eigenvalue lies within {limit.residual:.2g} of that sharpness ({share:.2g} of it: the residual)"
    if math.isfinite(limit.bound):
        text += f"; with 99 % probability the largest is at most {limit.bound:.3g}"
        text += f", which would lower the limit to {limit.curvature_lr * limit.sharpness / limit.bound:.3g}" if limit.bound > 0 else ""
    return wrapped(f"{text}.")


def noise_part(limit: StableLR) -> list[str]:
    """What the batches' disagreement allows."""
    if limit.noise_lr is None:
        return []
    text = (
        "Each batch has a curvature of its own along that direction. With a mean a and a variance v of it, and a momentum mu, the iterate "
        "stays bounded in mean square up to"
    )
    share = 1 / limit.noise_lr - 1 / limit.curvature_lr
    lines = [*paragraph(text), *formula("1 / lr = a / (2 (1 + mu)) + v / (2 (1 - mu) a)")]
    lines += formula(f"1 / lr = 1 / {limit.curvature_lr:.3g} + {share:.3g} = 1 / {limit.noise_lr:.3g}")
    rough = " It is known only roughly." if CurvatureDoubt.NOISE_UNSURE in limit.doubts else ""
    lines += wrapped(f"The first term is that of the curvature, the second the batches' own.{rough}")
    averaged = "A momentum that averages multiplies that LR by 1 / (1 - mu). " if limit.preconditioned else ""
    return [*lines, *wrapped(f"{averaged}{capital(describe_binding(limit))}.")]


def first_step_part(limit: StableLR) -> list[str]:
    """What a warm-up gains."""
    if limit.first_step_lr is None:
        return []
    gain = limit.curvature_lr / limit.first_step_lr if math.isfinite(limit.first_step_lr) else 0.0
    return paragraph(
        f"At its very first step the optimizer knows the size of its gradients from one batch only, and is stable up to "
        f"{limit.first_step_lr:.3g}: a warm-up gains x{gain:.2g}."
    )


def layers_part(limit: StableLR) -> list[str]:
    """Where the sharpest direction lies."""
    if not limit.by_parameter:
        return []
    largest = [[f"{share:.0%}", shortened(name, 60, end=True)] for name, share in limit.by_parameter.items()][:LARGEST_SHARES]
    return [*paragraph("The sharpest direction lies in"), *table([["share", "parameter"], *largest], "    ")]


def settings_story(limit: StableLR) -> list[str]:
    """What the limit holds for, and the doubts."""
    lines = paragraph(f"It holds for {limit.model}, {limit.optimizer}, in {limit.mode} mode, seed {limit.seed}, for the first steps only.")
    return [*lines, "", "doubts", *bullets([doubt.value for doubt in limit.doubts])] if limit.doubts else lines
