"""Every warning as the user reads it, with what to do. The numbers that each one is about stand in the lines of the report above it."""

from __future__ import annotations

from hessian.doubts import Sentence
from hessian.errors import NoSuggestionError as NoSuggestionError


class Doubt(Sentence):
    """A reason to trust a suggestion less; the value says what it means, and ``what_to_do`` what helps."""

    NO_DIVERGENCE = (
        "The loss never broke, so nothing bounds the learning rate from above: raise end_lr to find where it breaks.",
        "Call find_lr again with an end_lr a hundred times as large. If it still does not break, as with weights that a norm rescales, "
        "trust the short trainings.",
    )
    NONFINITE = (
        "The loss stopped being finite during the sweep; only the points before that were used.",
        "Nothing, if it happened at the right end of the picture. Further left, look for NaN in the data and for overflow in the loss.",
    )
    INTERRUPTED = (
        "The sweep was interrupted; only the points recorded until then were used, so run it again to the end.",
        "Run it again, with budget='quick' if time is short.",
    )
    DATA_ENDED = (
        "The data ran out during the sweep; only the points recorded until then were used: give more batches.",
        "Pass a DataLoader, a list of batches, or a function that returns one: these can be read as often as needed.",
    )
    STARTS_HIGH = (
        "The loss was falling from the first step on, so part of the useful range may lie below start_lr: lower it.",
        "Call find_lr again with a start_lr a hundred times as small.",
    )
    NOISY = (
        "The losses of single batches scatter widely beside what the sweep gained: use larger batches or a longer budget.",
        "Pass budget='thorough'. If the picture is still a cloud, measure with batches four times as large.",
    )
    NO_FALL = (
        "The sweep never fell by more than batch noise, so its break and short trainings had to say where to look: use larger batches.",
        "Measure with larger batches or budget='thorough', and check that criterion and targets fit the model.",
    )
    FEW_POINTS = (
        "The useful range holds few sweep points, so its edges are coarse: use a longer budget, or narrow start_lr and end_lr.",
        "Pass budget='thorough', or a start_lr and an end_lr two decades to either side of the suggestion.",
    )
    NARROW = (
        "The sweep is low in a narrow range only, so a somewhat larger LR may break the training: watch it, or lengthen the warm-up.",
        "Start at the low end of the good range, or warm up over twice as many steps, and watch the first of them.",
    )
    LITTLE_GAIN = (
        "Neither the sweep nor a short training lowered the loss by a twentieth: on a plateau the answer may be far too low, "
        "so watch the start.",
        "Try the suggestion and three times of it, each for a few hundred steps, and keep the one whose loss starts to fall.",
    )
    SMALL_SET_ASIDE = (
        "The short trainings were scored on few samples, so their order may be chance: pass val_data.",
        "Pass your validation loader as val_data: a few hundred samples are enough.",
    )
    SHARED_SAMPLES = (
        "The data cannot be divided, so short trainings may have been scored on samples they trained on and not see over-fitting: "
        "pass val_data.",
        "Pass your validation loader as val_data, or the data as a DataLoader over a data set that has a length.",
    )
    NO_CURVATURE = (
        "Curvature could not be measured, so the suggestion rests on all else: its line above says why.",
        "Nothing, for an optimizer without a limit. Else follow the reason that stands beside curvature.",
    )
    NOT_CONVERGED = (
        "The sharpness did not converge, so the curvature limit is too high: call hessian.stable_lr with more max_hvps.",
        "Call hessian.stable_lr with max_hvps=200, and start the warm-up below the limit that it gives.",
    )
    ABOVE_LIMIT = (
        "The suggestion is above the largest LR that is stable at step 0, so reach it by a warm-up that starts below that limit.",
        "Use the schedule that is printed, or pass found.warmup.start_lr and found.warmup.steps to the warm-up of your own.",
    )
    BREAKS_BELOW_LIMIT = (
        "The loss broke far below the limit at step 0, so it got sharper on the way, or batches differ more than was seen: "
        "a larger batch may allow a larger LR.",
        "If you want a larger learning rate, double the batch and measure again; clipping the gradients may help too.",
    )
    HORIZON_ASSUMED = (
        "total_steps was not given, so a length was assumed and the best LR depends on it: pass total_steps.",
        "Pass total_steps=epochs * len(loader).",
    )
    HORIZON_EXTRAPOLATED = (
        "The training is longer than any the rule was fitted on, so the suggestion is extrapolated: check it early.",
        "After a hundredth of the training, compare with half and with twice the learning rate, and keep the best of the three.",
    )
    SCHEDULE_UNKNOWN = (
        "schedule is None, so a constant LR was assumed; a peak that decays may be about twice as large: pass schedule.",
        "Pass schedule='onecycle', 'cosine', 'linear' or 'constant', whichever you will train with.",
    )
    LOWERED = (
        "A short training at the first suggestion did not lower the loss, so the suggestion was divided until one did.",
        "Watch the first steps. If the loss rises there, train with the low end of the good range.",
    )
    PLATEAU = (
        "Short trainings left the loss where it was, as on a plateau at the start: watch the first steps.",
        "If the loss has not moved after a tenth of the training, raise the learning rate three times, or change the initialization.",
    )
    UNCONFIRMED = (
        "The suggestion was not tried in a short training: call find_lr to have it confirmed.",
        "Call find_lr with the model, or train for a few dozen steps at the suggestion and see that the loss falls.",
    )
