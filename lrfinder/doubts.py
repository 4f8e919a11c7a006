"""Every warning as the user reads it. The numbers that each one is about stand in the lines of the report above it."""

from __future__ import annotations

from enum import Enum

from hessian.errors import NoSuggestionError as NoSuggestionError


class Doubt(Enum):
    """A reason to trust a suggestion less; the value says what it means and what to do."""

    NO_DIVERGENCE = "The loss never broke, so nothing bounds the learning rate from above: raise end_lr to find where it breaks."
    NONFINITE = "The loss stopped being finite during the sweep; only the points before that were used."
    INTERRUPTED = "The sweep was interrupted; only the points recorded until then were used, so run it again to the end."
    DATA_ENDED = "The data ran out during the sweep; only the points recorded until then were used: give more batches."
    STARTS_HIGH = "The loss was falling from the first step on, so part of the useful range may lie below start_lr: lower it."
    NOISY = "The losses of single batches scatter widely beside what the sweep gained: use larger batches or a longer budget."
    NO_FALL = (
        "The sweep never fell by more than batch noise, so its break and short trainings had to say where to look: use larger batches."
    )
    FEW_POINTS = "The useful range holds few sweep points, so its edges are coarse: use a longer budget, or narrow start_lr and end_lr."
    NARROW = "The sweep is low in a narrow range only, so a somewhat larger LR may break the training: watch it, or lengthen the warm-up."
    LITTLE_GAIN = (
        "Neither the sweep nor a short training lowered the loss by a twentieth: on a plateau the answer may be far too low, "
        "so watch the start."
    )
    SMALL_SET_ASIDE = "The short trainings were scored on few samples, so their order may be chance: pass val_data."
    SHARED_SAMPLES = (
        "The data cannot be divided, so short trainings may have been scored on samples they trained on and not see over-fitting: "
        "pass val_data."
    )
    NO_CURVATURE = "Curvature could not be measured, so the suggestion rests on the sweep alone: its line above says why."
    NOT_CONVERGED = "The sharpness did not converge, so the curvature limit is too high: call hessian.stable_lr with more max_hvps."
    ABOVE_LIMIT = "The suggestion is above the largest LR that is stable at step 0, so reach it by a warm-up that starts below that limit."
    BREAKS_BELOW_LIMIT = (
        "The loss broke far below the curvature limit, so batch noise or the shape of the loss binds, not curvature: "
        "a larger batch may allow a larger LR."
    )
    HORIZON_ASSUMED = "total_steps was not given, so a length was assumed and the best LR depends on it: pass total_steps."
    HORIZON_EXTRAPOLATED = "The training is longer than any the rule was fitted on, so the suggestion is extrapolated: check it early."
    SCHEDULE_UNKNOWN = "schedule is None, so a constant LR was assumed; a peak that decays may be about twice as large: pass schedule."
    LOWERED = "A short training at the first suggestion did not lower the loss, so the suggestion was divided until one did."
    PLATEAU = "Short trainings left the loss where it was, as on a plateau at the start: watch the first steps."
    UNCONFIRMED = "The suggestion was not tried in a short training: call find_lr to have it confirmed."
