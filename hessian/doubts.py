"""Every warning of a curvature measurement."""

from __future__ import annotations

from enum import Enum


class Sentence(Enum):
    """Base of the doubts: each member has a sentence, which is its value, and advice, ``what_to_do``."""

    what_to_do: str

    def __new__(cls, sentence: str, what_to_do: str) -> Sentence:
        member = object.__new__(cls)
        member._value_ = sentence
        member.what_to_do = what_to_do
        return member


class CurvatureDoubt(Sentence):
    """A reason to trust a limit less; the value says what it means, and ``what_to_do`` what helps."""

    NOT_CONVERGED = (
        "The sharpness did not converge, so the limit is too high: call hessian.stable_lr with more max_hvps.",
        "Call hessian.stable_lr with max_hvps=200. Until then stay at half of the limit.",
    )
    FINITE_DIFFERENCE = (
        "The model has no second derivative, so gradients were differenced: expect two to three digits.",
        "Nothing, if two digits are enough. For more, use a form of the layer that has a second derivative, such as the math kernel of "
        "scaled_dot_product_attention.",
    )
    SHARDED = (
        "The model is sharded and gradients were differenced in place of whole products: expect two to three digits.",
        "Nothing, if two digits are enough. For more, measure where the whole parameters fit on one device.",
    )
    INACCURATE = (
        "The differences of gradients are off by more than a tenth (kinks, batch norm, low precision): measure in float64.",
        "Measure a copy of the model in float64 (model.double()), in eval mode if batch norm is the cause.",
    )
    AUTOCAST = (
        "Autocast was on; curvature was measured without it, in the precision of the weights.",
        "Nothing: the limit holds for the weights as they are.",
    )
    LOW_PRECISION = (
        "The weights are in half precision, whose rounding is a few percent of a product: measure a float32 copy.",
        "Measure copy.deepcopy(model).float() on batches in float32.",
    )
    NO_NOISE = (
        "One batch was measured, so the noise between batches, which may bind first, is not known: measure more.",
        "Call hessian.stable_lr with num_batches=4 or more, or find_lr with a longer budget than 'quick'.",
    )
    NOISE_UNSURE = (
        "The limit of batch noise rests on a few batches that may be unlike others, so it may be several times off: measure more.",
        "Call hessian.stable_lr with num_batches=32, and on another seed. Many trainings do well above it, below curvature_lr.",
    )
    RECOMPUTED = (
        "Not all graphs fit graph_memory, so some batches were run again for every product: slower, not less exact.",
        "Nothing, unless it took too long: then pass a larger graph_memory, or a smaller num_batches.",
    )
    YOUNG = (
        "The optimizer has made fewer than 16 steps and hardly knows its gradients, so its limit may be far too low: wait.",
        "Train for 16 steps or more, then look at the next reading.",
    )
