"""Every exception of both packages that a user may want to catch."""

from __future__ import annotations

from typing import Any


class BadArgument(ValueError):
    """An argument that cannot be right, found before any weight moved."""


class BadType(TypeError):
    """An argument of the wrong kind, found before any weight moved."""


class MeasurementError(RuntimeError):
    """A measurement that could not be made.

    Attributes:
        curve: What was recorded until then, or None.
    """

    def __init__(self, message: str, *, curve: Any = None) -> None:
        super().__init__(message)
        self.curve = curve


class CurvatureError(MeasurementError):
    """The curvature, or the optimizer's limit, cannot be told."""


class PeerError(MeasurementError):
    """Another of the processes that measure together failed, or does not answer."""


class NoSuggestionError(MeasurementError):
    """The evidence does not carry a learning rate."""
