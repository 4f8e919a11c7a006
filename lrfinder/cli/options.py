"""The options that several commands share, checked before minutes are spent on measuring."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from functools import reduce
from pathlib import Path
from typing import Any

import click

from lrfinder.cli.defaults import defaults_for
from lrfinder.cli.words import LogHandler

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
IMAGES = (".png", ".svg", ".pdf")
FORMS = {"plot": (), "compare": (".json", ".csv"), "stable-lr": (".json", ".html")}  # beside images; the other commands know all


class AnyPath(click.Path):
    """A path, with a sentence also where no file could have that name."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except ValueError as error:  # a null byte
            self.fail(f"{value!r} is no path: {error}.", param, ctx)


class Command(click.Command):
    """A command with the defaults of the nearest pyproject.toml."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing and not {"-h", "--help"} & set(args):  # completion and help must not fail on a file that is wrong
            ctx.default_map = {**(ctx.default_map or {}), **defaults_for(self)}
        return super().parse_args(ctx, args)


class Commands(click.Group):
    command_class = Command


def check_output(context: click.Context, parameter: click.Parameter, values: Iterable[str]) -> tuple[str, ...]:
    """Refuse an output that could not be written."""
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


outputs = click.option(
    *("-o", "--output", "outputs"),
    type=AnyPath(),
    multiple=True,
    callback=check_output,
    help="Where to write the result; the suffix decides (.html .png .svg .pdf .json .csv). Repeatable.",
)


def be_verbose(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    """Show the log of what is decided, on stderr."""
    logger = logging.getLogger("lrfinder")
    if value and not any(isinstance(handler, LogHandler) for handler in logger.handlers):
        logger.setLevel(logging.DEBUG)
        logger.addHandler(LogHandler())


verbose = click.option(
    *("-v", "--verbose"),
    is_flag=True,
    expose_value=False,
    callback=be_verbose,
    help="Say on stderr what is decided on the way, and why.",
)


def stacked(*options: Decorator) -> Decorator:
    """Several options as one decorator, in the order of the help text."""
    return lambda function: reduce(lambda inner, option: option(inner), reversed(options), function)


measuring = stacked(
    click.argument("target", metavar="MODULE:FACTORY", type=AnyPath()),
    click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="An argument for the factory. Repeatable."),
    click.option("--seed", type=click.IntRange(min=0), help="Seed of the data order and all else.  [default: 0]"),
    click.option("--device", help="Where batches are moved.  [default: left where they are]"),
    click.option("--quiet", is_flag=True, help="Print only the number."),
    verbose,
    outputs,
)

planning = stacked(
    click.option("--total-steps", type=click.IntRange(min=1), help="Steps of the planned training."),
    click.option("--schedule", type=click.Choice(["constant", "onecycle", "cosine", "linear"]), help="Its schedule.  [default: onecycle]"),
    click.option("--budget", help="quick, standard, thorough, or a number of gradients.  [default: standard]"),
    click.option("--no-curvature", "curvature", flag_value=False, default=None, help="Leave the curvature limit out."),
)

ranging = stacked(
    click.option("--start-lr", type=float, help="Lowest learning rate of the sweep.  [default: 1e-7]"),
    click.option("--end-lr", type=float, help="Highest learning rate of the sweep."),
)

saved = click.argument("files", metavar="FILE.json...", nargs=-1, required=True, type=AnyPath(exists=True, dir_okay=False))
