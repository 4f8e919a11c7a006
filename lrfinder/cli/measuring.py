"""From a target on the command line to a measurement of it. What the user's code prints goes to stderr: stdout is for the result alone."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import hessian
import lrfinder
from lrfinder.targets import Settings, accepted, call_factory, framed, parse_settings, resolve


def number_or_name(budget: str) -> str | int:
    """A budget as ``find_lr`` takes it."""
    try:
        return int(budget)
    except ValueError:
        return budget


def factory_of(target: str) -> Callable[..., Any]:
    """The user's factory."""
    with contextlib.redirect_stdout(sys.stderr):
        return resolve(target)


def measure(name: str, factory: Callable[..., Any], pairs: tuple[str, ...], options: Settings) -> Any:
    """Run one measurement on what the factory returns; ``options`` that were given win."""
    with contextlib.redirect_stdout(sys.stderr):
        made = call_factory(factory, parse_settings(pairs))
        functions: dict[str, Callable[..., Any]] = {
            "find_lr": lrfinder.find_lr,
            "range_test": lrfinder.range_test,
            "stable_lr": hessian.stable_lr,
        }
        given = {key: value for key, value in options.items() if value is not None}
        return functions[name](**framed(accepted(functions[name], {**made, **given}, functions.values())))


def complete(curve: lrfinder.LRCurve) -> lrfinder.LRCurve:
    """The curve, unless the user stopped it: an answer must not follow a Ctrl-C as if nothing had happened."""
    if "interrupted" in (curve.status, *(alone.status for alone in curve.groups)):
        stop = KeyboardInterrupt()
        stop.curve = curve  # type: ignore[attr-defined]
        raise stop
    return curve
