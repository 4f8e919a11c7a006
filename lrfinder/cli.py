"""The command line. torch and matplotlib load only once there is something to measure or to draw."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from functools import reduce
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, TextIO

import click

import hessian
import lrfinder
from hessian.errors import BadArgument, BadType, MeasurementError
from lrfinder.demo import DEMOS, OPTIMIZERS
from lrfinder.signals import Termination
from lrfinder.targets import Settings, accepted, call_factory, framed, frameless_in, parse_settings, resolve

FOUND, USER_ERROR, USAGE, NO_RESULT, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
IMAGES, FORMS = (".png", ".svg", ".pdf"), {"plot": (), "stable-lr": (".json", ".html")}  # beside images; the other commands know all

EPILOG = (
    "\b\nExit status: 0 found, 1 your code raised an error, 2 wrong usage or target,\n"
    "or a file that cannot be read or written, 3 no reliable learning rate,\n130 Ctrl-C, 143 SIGTERM."
)


def check_output(context: click.Context, parameter: click.Parameter, values: Iterable[str]) -> tuple[str, ...]:
    """Refuse an output that could not be written, before minutes are spent on measuring."""
    known = (*IMAGES, *FORMS.get(str(context.info_name), (".json", ".csv", ".html")))
    for value in values:
        path = Path(value)
        if path.suffix.lower() not in known:
            raise click.BadParameter(f"{value!r} ends in none of {', '.join(known)}.")
        folder = Path(os.path.realpath(path)).parent  # a link is followed
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise click.BadParameter(f"cannot write into the folder {str(folder if path.is_symlink() else path.parent)!r}.")
        if path.is_dir():
            raise click.BadParameter(f"{value!r} is a folder; name a file.")
        context.find_root().obj.append(value)
    return tuple(values)


def outputs(function: Callable[..., Any]) -> Callable[..., Any]:
    """The ``-o`` option."""
    text = "Where to write the result; the suffix decides (.html .png .svg .pdf .json .csv). Repeatable."
    return click.option("-o", "--output", "outputs", multiple=True, callback=check_output, help=text)(function)


def stacked(*options: Decorator) -> Decorator:
    """Several options as one decorator, in the order of the help text."""
    return lambda function: reduce(lambda inner, option: option(inner), reversed(options), function)


# Of every command that measures a user's training.
measuring = stacked(
    click.argument("target", metavar="MODULE:FACTORY"),
    click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="An argument for the factory. Repeatable."),
    click.option("--seed", type=click.IntRange(min=0), help="Seed of the data order and all else.  [default: 0]"),
    click.option("--device", help="Where batches are moved.  [default: left where they are]"),
    click.option("--quiet", is_flag=True, help="Print only the number."),
    outputs,
)

# Of the planned training and of the measurement of ``find_lr``.
planning = stacked(
    click.option("--total-steps", type=click.IntRange(min=1), help="Steps of the planned training."),
    click.option(
        "--schedule",
        type=click.Choice(["constant", "onecycle", "cosine", "linear"]),
        help="Its schedule.  [default: onecycle]",
    ),
    click.option("--budget", help="quick, standard, thorough, or a number of gradients.  [default: standard]"),
    click.option("--no-curvature", "curvature", flag_value=False, default=None, help="Leave the curvature limit out."),
)

# The LR range of a sweep.
ranging = stacked(
    click.option("--start-lr", type=float, help="Lowest learning rate of the sweep.  [default: 1e-7]"),
    click.option("--end-lr", type=float, help="Highest learning rate of the sweep."),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.version_option(lrfinder.__version__, prog_name="lrfinder")
def cli() -> None:
    """Which learning rate for this PyTorch training?

    Two measurements of your own model, data and optimizer, an LR range test and the curvature limit, on one picture.
    """


@cli.command(epilog="Trainings: " + "; ".join(f"{name}: {text}" for name, text in DEMOS.items()))
@click.argument("name", type=click.Choice(list(DEMOS)), default=next(iter(DEMOS)))
@click.option("--optimizer", type=click.Choice(OPTIMIZERS), help="Another optimizer than the training's own.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--budget", default="standard", show_default=True, help="quick, standard, thorough, or a number of gradients.")
@click.option("--quiet", is_flag=True, help="Print only the number.")
@outputs
def demo(name: str, optimizer: str | None, seed: int, budget: str, quiet: bool, outputs: tuple[str, ...]) -> None:
    """Find the learning rate of a small real training that ships with the package."""
    from lrfinder.demo import make

    show(lrfinder.find_lr(**make(name, optimizer, seed), seed=seed, budget=number_or_name(budget)), quiet, outputs)


@cli.command()
@measuring
@planning
@ranging
def find(target: str, pairs: tuple[str, ...], quiet: bool, outputs: tuple[str, ...], **options: Any) -> None:
    """Find the learning rate of your training.

    MODULE:FACTORY (or path/train.py:factory) is a function that returns the arguments of lrfinder.find_lr as a mapping: model,
    optimizer, data, criterion or loss_fn, and any other. Options given here win over it.
    """
    if options["budget"] is not None:
        options["budget"] = number_or_name(options["budget"])
    show(measure("find_lr", factory_of(target), pairs, options), quiet, outputs)


@cli.command("range-test")
@measuring
@ranging
@click.option("--num-iter", type=click.IntRange(min=2), help="Steps.  [default: 100]")
@click.option("--mode", type=click.Choice(["exponential", "linear"]), help="Spacing of the learning rates.  [default: exponential]")
@click.option("--metric", type=click.Choice(["accuracy"]), help="What to record beside the loss.")
@click.option("--per-group", is_flag=True, flag_value=True, default=None, help="Sweep every param group alone too.")
@click.option("--rule", default="steepest", show_default=True, help="Rule whose suggestion --quiet prints.")
def range_test(target: str, pairs: tuple[str, ...], quiet: bool, outputs: tuple[str, ...], rule: str, **options: Any) -> None:
    """Record loss against learning rate, with what the published rules say."""
    factory = factory_of(target)
    from lrfinder.rules import find_rule

    find_rule(rule)  # after the user's module, which may register it; before the sweep
    curve = complete(measure("range_test", factory, pairs, options))
    show(curve, quiet, outputs, number=lambda: curve.suggest(rule))


def complete(curve: lrfinder.LRCurve) -> lrfinder.LRCurve:
    """The curve, unless the user stopped it: an answer must not follow a Ctrl-C as if nothing had happened."""
    if "interrupted" in (curve.status, *(alone.status for alone in curve.groups)):
        stop = KeyboardInterrupt()
        stop.curve = curve  # type: ignore[attr-defined]
        raise stop
    return curve


@cli.command("stable-lr")
@measuring
@click.option("--num-batches", type=click.IntRange(min=1), help="Batches to average the Hessian over.  [default: 4]")
@click.option("--tol", type=float, help="Relative accuracy of the sharpness.  [default: 0.01]")
def stable_lr(target: str, pairs: tuple[str, ...], quiet: bool, outputs: tuple[str, ...], **options: Any) -> None:
    """Measure the largest learning rate that is stable at the current weights."""
    show(measure("stable_lr", factory_of(target), pairs, options), quiet, outputs)


@cli.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@outputs
def plot(files: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    """Draw saved results (.json) on one picture."""
    results = [lrfinder.load(file) for file in files]
    if not outputs:
        raise click.UsageError("plot needs -o, such as -o lr.png.")
    for path in outputs:
        lrfinder.plot(*results, path=path)
        click.echo(f"wrote {path}", err=True)


def is_main() -> bool:
    """Whether this process speaks; torch is loaded only where there may be others."""
    if "TORCHELASTIC_RUN_ID" not in os.environ and "torch" not in sys.modules:
        return True
    from hessian.distributed import is_main

    return is_main()


def number_or_name(budget: str) -> str | int:
    """A budget as ``find_lr`` takes it."""
    try:
        return int(budget)
    except ValueError:
        return budget


def factory_of(target: str) -> Callable[..., Any]:
    """The user's factory. What importing it prints goes to stderr: stdout is for the result alone."""
    with contextlib.redirect_stdout(sys.stderr):
        return resolve(target)


def measure(name: str, factory: Callable[..., Any], pairs: tuple[str, ...], options: Settings) -> Any:
    """Run one measurement on what the factory returns; ``options`` that were given win. What user code prints goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        made = call_factory(factory, parse_settings(pairs))
        functions: dict[str, Callable[..., Any]] = {
            "find_lr": lrfinder.find_lr,
            "range_test": lrfinder.range_test,
            "stable_lr": hessian.stable_lr,
        }
        given = {key: value for key, value in options.items() if value is not None}
        return functions[name](**framed(accepted(functions[name], {**made, **given}, functions.values())))


def show(result: Any, quiet: bool, outputs: tuple[str, ...], number: Callable[[], float] | None = None) -> None:
    """Print the result, or its number, and write it; each also if the other fails. Of several processes only the first does."""
    if not is_main():
        return
    text = f"{(number or result.__float__)():.6g}" if quiet else str(result)
    try:
        click.echo(text)
    finally:
        write(result, outputs)


def write(result: Any, outputs: Iterable[str]) -> None:
    """Save to every output that can be written, naming each on stderr."""
    failed = False
    for path in outputs:
        try:
            result.save(path)
            click.echo(f"wrote {path}", err=True)
        except OSError as error:
            failed = True
            click.echo(f"Error: {error.strerror or error}", err=True)
    if failed:
        raise click.exceptions.Exit(USAGE)


def main() -> NoReturn:
    """Run the command line and exit with one of the documented codes."""
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
        return error.exit_code
    except BaseException as error:
        rescue(error, wanted)
        return explain(error)


def explain(error: BaseException) -> int:
    """Say on stderr what went wrong, and return the exit code. Only errors of the user's own code show a traceback, on whatever rank."""
    if isinstance(error, KeyboardInterrupt):
        complain("interrupted")
        return INTERRUPTED
    if isinstance(error, (BadArgument, BadType, MeasurementError)):
        complain(f"Error: {error}")
        return NO_RESULT if isinstance(error, MeasurementError) else USAGE
    if isinstance(error, OSError) and not users_frames(error):
        complain(f"Error: {error}")
        drop_unwritten(sys.stdout)
        return USAGE
    if frameless_in(error.__traceback__) and not users_frames(error):
        words = " ".join("".join(traceback.format_exception_only(error)).split())
        click.echo(f"Error: {frameless_in(error.__traceback__)} raised {words.rstrip('.')}; call it on one batch by hand.", err=True)
        return USER_ERROR
    traceback.print_exception(error.with_traceback(from_user_code(error)))
    return USER_ERROR


def complain(text: str) -> None:
    """One line on stderr, from the first of several processes."""
    if is_main():
        click.echo(text, err=True)


def from_user_code(error: BaseException) -> TracebackType | None:
    """The traceback without the calls that led to the user's code; all of it if none of it is theirs."""
    rest = users_frames(error)
    return rest if rest is not None or isinstance(error, SyntaxError) else error.__traceback__  # a SyntaxError says itself where


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
        click.echo(f"Error: what was recorded could not be saved: {str(failure) or 'interrupted'}", err=True)
