"""The commands."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import click

import hessian
import lrfinder
from lrfinder.cli.options import Commands, measuring, outputs, planning, ranging, saved, verbose
from lrfinder.cli.words import is_main, print_result, say, show, write
from lrfinder.demo import DEMOS, OPTIMIZERS
from lrfinder.targets import Settings, accepted, call_factory, framed, parse_settings, resolve

EPILOG = (
    "\b\nExit status: 0 found, 1 your code raised an error, 2 wrong usage or target,\n"
    "or a file that cannot be read or written, 3 no reliable learning rate,\n130 Ctrl-C, 143 SIGTERM.\n\n"
    "\b\nDefaults of every option: [tool.lrfinder] in the nearest pyproject.toml.\n"
    'Completion in bash: eval "$(_LRFINDER_COMPLETE=bash_source lrfinder)"'
)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.version_option(lrfinder.__version__, prog_name="lrfinder")
@verbose
def cli() -> None:
    """Which learning rate for this PyTorch training?

    Two measurements of your own model, data and optimizer, an LR range test and the curvature limit, on one picture.
    """


@cli.command(
    short_help="Find the LR of a small real training.", epilog="Trainings: " + "; ".join(f"{name}: {text}" for name, text in DEMOS.items())
)
@click.argument("name", type=click.Choice(list(DEMOS)), default=next(iter(DEMOS)))
@click.option("--optimizer", type=click.Choice(OPTIMIZERS), help="Another optimizer than the training's own.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--budget", default="standard", show_default=True, help="quick, standard, thorough, or a number of gradients.")
@click.option("--quiet", is_flag=True, help="Print only the number.")
@verbose
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


@cli.command("range-test", short_help="Record loss against learning rate, and read published rules.")
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
    curve: lrfinder.LRCurve = measure("range_test", factory, pairs, options)
    if "interrupted" in (curve.status, *(alone.status for alone in curve.groups)):
        stop = KeyboardInterrupt()  # an answer must not follow a Ctrl-C as if nothing had happened
        stop.curve = curve  # type: ignore[attr-defined]
        raise stop
    show(curve, quiet, outputs, number=lambda: curve.suggest(rule))


@cli.command("stable-lr", short_help="Measure the largest learning rate that is stable now.")
@measuring
@click.option("--num-batches", type=click.IntRange(min=1), help="Batches to average the Hessian over.  [default: 4]")
@click.option("--tol", type=float, help="Relative accuracy of the sharpness.  [default: 0.01]")
def stable_lr(target: str, pairs: tuple[str, ...], quiet: bool, outputs: tuple[str, ...], **options: Any) -> None:
    """Measure the largest learning rate that is stable at the current weights."""
    show(measure("stable_lr", factory_of(target), pairs, options), quiet, outputs)


@cli.command()
@saved
@verbose
@outputs
def plot(files: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    """Draw saved results on one picture."""
    results = [lrfinder.load(file) for file in files]
    if not outputs:
        raise click.UsageError("plot needs -o, such as -o lr.png.")
    for path in outputs:
        lrfinder.plot(*results, path=path)
        say(f"wrote {path}")


@cli.command(short_help="Tell in words how a saved number came about.")
@saved
@verbose
def explain(files: tuple[str, ...]) -> None:
    """Tell how a saved number came about, with the formulas filled in."""
    stories = [explained(file) for file in files]
    if is_main():
        print_result("\n\n".join(stories))


def explained(file: str) -> str:
    result = lrfinder.load(file)
    if not hasattr(result, "explain"):
        raise click.UsageError(f"{file!r} holds a {result.kind}, which has nothing to explain; print it with lrfinder.load({file!r}).")
    return str(result.explain())


@cli.command()
@saved
@verbose
@outputs
def compare(files: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    """Compare saved results: a table, and one picture with -o c.png."""
    compared = lrfinder.compare(*files)
    if is_main():
        try:
            print_result(str(compared))
        finally:
            write(compared, outputs)


def number_or_name(budget: str) -> str | int:
    """A budget as ``find_lr`` takes it."""
    try:
        return int(budget)
    except ValueError:
        return budget


def factory_of(target: str) -> Callable[..., Any]:
    with contextlib.redirect_stdout(sys.stderr):
        return resolve(target)


def measure(name: str, factory: Callable[..., Any], pairs: tuple[str, ...], options: Settings) -> Any:
    """Run one measurement on what the factory returns; ``options`` that were given win."""
    with contextlib.redirect_stdout(sys.stderr):
        made = call_factory(factory, parse_settings(pairs))
        functions: list[Callable[..., Any]] = [lrfinder.find_lr, lrfinder.range_test, hessian.stable_lr]
        (function,) = [each for each in functions if each.__name__ == name]
        given = {key: value for key, value in options.items() if value is not None}
        return function(**framed(accepted(function, {**made, **given}, functions)))
