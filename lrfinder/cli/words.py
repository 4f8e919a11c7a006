"""What is said on stdout and stderr, in which colours, and written to the files that ``-o`` names."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, TextIO

import click

import lrfinder


def is_main() -> bool:
    """Whether this process speaks; torch is loaded only where there may be others."""
    if "TORCHELASTIC_RUN_ID" not in os.environ and "torch" not in sys.modules:
        return True
    from hessian.distributed import is_main

    return is_main()


def is_coloured(stream: TextIO) -> bool:
    """Whether someone watches who likes colours (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def complain(text: str) -> None:
    """A line on stderr, from the first of several processes."""
    if is_main():
        say(text)


def say(text: str) -> None:
    """A line on stderr."""
    if text.startswith("Error:") and is_coloured(sys.stderr):
        text = click.style("Error:", fg="red", bold=True) + text[len("Error:") :]
    click.echo(text, err=True, color=is_coloured(sys.stderr))


def print_result(text: str) -> None:
    """A result on stdout: its first line bold, labels faint, doubts yellow."""
    colour = is_coloured(sys.stdout)
    click.echo(coloured(text) if colour else text, color=colour)


def coloured(text: str) -> str:
    """The text with its parts told apart; without colours it is the same."""
    first, *lines = text.split("\n")
    doubted, shown = False, [click.style(first, bold=True)]
    for line in lines:
        doubted = doubted or line in ("doubts", "Doubts:") or line.startswith("  - ")
        label = re.match(r"  [a-z][a-z-]*( [a-z]+)?(?=  |$)", line)
        if doubted:
            shown.append(click.style(line, fg="yellow"))
        elif label is not None or (line.endswith(":") and line[:1].isupper() and len(line) < 30):
            end = label.end() if label is not None else len(line)
            shown.append(click.style(line[:end], fg="cyan") + line[end:])
        else:
            shown.append(line)
    return "\n".join(shown)


class LogHandler(logging.Handler):
    """What the library logs, on stderr, beside the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        if not is_main():
            return
        from lrfinder.progress import aside

        text = f"{record.name}: {record.getMessage()}"
        aside(click.style(text, dim=True) if is_coloured(sys.stderr) else text)


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
    """Save to every output that can be written, naming each on stderr."""
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
