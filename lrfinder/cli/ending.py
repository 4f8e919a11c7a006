"""Running the command line, and how it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn, TextIO

import click
from click.core import ParameterSource

import hessian
import lrfinder
from hessian.errors import BadArgument, BadType, MeasurementError
from lrfinder.cli.commands import cli
from lrfinder.cli.defaults import FILE, TABLE
from lrfinder.cli.words import complain, is_main, rescue, say
from lrfinder.targets import frameless_in

FOUND, USER_ERROR, USAGE, NO_RESULT, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143
COMPLETE = "_LRFINDER_COMPLETE"  # by which a shell asks what may follow


def main() -> NoReturn:
    """Run the command line and exit with one of the documented codes."""
    if COMPLETE in os.environ:
        from click.shell_completion import shell_complete

        sys.exit(shell_complete(cli, {}, "lrfinder", COMPLETE, os.environ[COMPLETE]))
    with Termination() as termination:
        code = run(sys.argv[1:])
    sys.exit(TERMINATED if termination.asked and code == INTERRUPTED else code)


def run(arguments: list[str]) -> int:
    """The exit code for these arguments."""
    wanted: list[str] = []  # filled with the outputs asked for: what was recorded goes there even if the measurement fails
    try:
        # Not cli.main(), which turns a KeyboardInterrupt into an Abort, and with it an EOFError that the user's code raised.
        with cli.make_context("lrfinder", arguments, obj=wanted) as context:
            cli.invoke(context)
        return FOUND
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        if is_main():
            error.show()
            say_origin(error)
        return error.exit_code
    except BaseException as error:
        rescue(error, wanted)
        return explain(error)


def say_origin(error: click.ClickException) -> None:
    """Where a value comes from that was not given on the command line."""
    if not isinstance(error, click.BadParameter) or error.ctx is None or error.param is None:
        return
    if error.ctx.get_parameter_source(str(error.param.name)) is ParameterSource.DEFAULT_MAP:
        say(f"That value stands under [{TABLE}] in the nearest {FILE}.")


def explain(error: BaseException) -> int:
    """Say on stderr what went wrong, and return the exit code. Only errors of the user's own code show a traceback, on whatever rank."""
    if isinstance(error, KeyboardInterrupt):
        complain("interrupted")
        return INTERRUPTED
    if isinstance(error, (BadArgument, BadType, MeasurementError)):
        complain(f"Error: {error}")
        return NO_RESULT if isinstance(error, MeasurementError) else USAGE
    theirs = users_frames(error)
    if isinstance(error, OSError) and not theirs:
        complain(f"Error: {error}")
        drop_unwritten(sys.stdout)
        return USAGE
    built_in = frameless_in(error.__traceback__)
    if built_in and not theirs:
        words = " ".join("".join(traceback.format_exception_only(error)).split())
        say(f"Error: {built_in} raised {words.rstrip('.')}; call it on one batch by hand.")
        return USER_ERROR
    # Without the calls that led to the user's code; a SyntaxError says itself where.
    traceback.print_exception(error.with_traceback(theirs if theirs or isinstance(error, SyntaxError) else error.__traceback__))
    return USER_ERROR


def users_frames(error: BaseException) -> TracebackType | None:
    """The traceback from the first frame on that is not ours."""
    own = (*(str(Path(str(module.__file__)).parent) for module in (lrfinder, hessian, click)), "<frozen importlib", contextlib.__file__)
    rest = error.__traceback__
    while rest is not None and rest.tb_frame.f_code.co_filename.startswith(own):
        rest = rest.tb_next
    return rest


def drop_unwritten(stream: TextIO) -> None:
    """Forget what a stream could not write (a full disk, a reader that is gone): Python would try again at exit, and end with 120."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Termination:
    """Inside ``with Termination() as termination:`` a SIGTERM becomes a Ctrl-C, and ``termination.asked`` says that it was one."""

    def __init__(self) -> None:
        self.asked = False
        self._process = os.getpid()

    def __enter__(self) -> Termination:
        self._before = signal.signal(signal.SIGTERM, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if self._before is None else self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker that was forked off: it ends as if we were not here
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.asked = True
        if callable(signal.getsignal(signal.SIGINT)):
            signal.raise_signal(signal.SIGINT)  # and not an exception: where Ctrl-C is held back (hessian.snapshot), this is too
        else:  # a background job ignores Ctrl-C
            raise KeyboardInterrupt
