"""Every warning of a curvature measurement as the user reads it."""

from __future__ import annotations

from enum import Enum


class CurvatureDoubt(Enum):
    """A reason to trust a limit less; the value says what it means and what to do."""

    NOT_CONVERGED = "The sharpness did not converge, so the limit is too high: call hessian.stable_lr with more max_hvps."
    FINITE_DIFFERENCE = "The model has no second derivative, so gradients were differenced: expect two to three digits."
    SHARDED = "The model is sharded and gradients were differenced in place of whole products: expect two to three digits."
    INACCURATE = "The differences of gradients are off by more than a tenth (kinks, batch norm, low precision): measure in float64."
    AUTOCAST = "Autocast was on; curvature was measured without it, in the precision of the weights."
    LOW_PRECISION = "The weights are in half precision, whose rounding is a few percent of a product: measure a float32 copy."
    NO_NOISE = "One batch was measured, so the noise between batches, which may bind first, is not known: raise num_batches."
    RECOMPUTED = "Not all graphs fit graph_memory, so some batches were run again for every product: slower, not less exact."
    YOUNG = "The optimizer has made fewer than 16 steps and hardly knows its gradients, so its limit may be far too low: wait."
