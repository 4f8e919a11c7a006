"""Printing a result and writing it to the files that ``-o`` names: each also if the other fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click

import lrfinder
from lrfinder.cli.words import is_main, print_result, say

UNWRITTEN = 2  # exit status


def show(result: Any, quiet: bool, outputs: tuple[str, ...], number: Callable[[], float] | None = None) -> None:
    """Print the result, or its number, and write it. Of several processes only the first does."""
    if not is_main():
        return
    text = f"{(number or result.__float__)():.6g}" if quiet else str(result)
    try:
        print_result(text)
    finally:
        write(result, outputs)


def write(result: Any, outputs: Iterable[str]) -> None:
    """Save to every output that can be written, naming each on stderr. The suffix says what is written: ``result.save`` knows."""
    failed = False
    for path in outputs:
        try:
            result.save(path)
            say(f"wrote {path}")
        except OSError as error:
            failed = True
            say(f"Error: {error.strerror or error}")
    if failed:
        raise click.exceptions.Exit(UNWRITTEN)


def rescue(error: BaseException, wanted: list[str]) -> None:
    """Write what was recorded before the error, which is what is reported, whatever happens here."""
    curve = getattr(error, "curve", None)
    if curve is None or not isinstance(curve, lrfinder.LRCurve) or not len(curve.lrs):  # not loaded where there can be none
        return
    try:
        write(curve, wanted if is_main() else [])
    except click.exceptions.Exit:
        pass  # said already
    except (Exception, KeyboardInterrupt) as failure:
        say(f"Error: what was recorded could not be saved: {str(failure) or 'interrupted'}")
