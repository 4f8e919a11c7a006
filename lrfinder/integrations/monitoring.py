"""What the callbacks around ``hessian.SharpnessMonitor`` have in common."""

from __future__ import annotations

from hessian import SharpnessReading


def scalars(reading: SharpnessReading) -> dict[str, float]:
    """The numbers of a reading, by the names under which loggers get them."""
    return {
        "sharpness/sharpness": reading.sharpness,
        "sharpness/lr": reading.lr,
        "sharpness/limit_lr": reading.limit_lr,
        "sharpness/ratio": reading.ratio,
    }
