"""Defaults from ``[tool.lrfinder]`` in the nearest pyproject.toml."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import click

from hessian.errors import BadArgument

FILE, TABLE = "pyproject.toml", "tool.lrfinder"
NOT_SET = ("help", "version", "verbose")  # options that are no defaults


def defaults_for(command: click.Command) -> dict[str, Any]:
    """The defaults of a command by the names of its parameters: those of all commands, then its own, which win."""
    here = Path.cwd()
    path = next((place / FILE for place in (here, *here.parents) if (place / FILE).is_file()), None)
    if path is None or not (table := read(path)):
        return {}
    from lrfinder.cli.commands import cli

    commands, known = cli.commands, options_of(command)
    own, shared = table.get(str(command.name), {}), {key: value for key, value in table.items() if key not in commands}
    owners = {name: options_of(each) for name, each in commands.items()}
    check_keys(path, TABLE, shared, sorted({*commands, *(key for options in owners.values() for key in options)}), owners)
    check_keys(path, f"{TABLE}.{command.name}", own, sorted(known), owners)
    merged = {plain(key): value for given in (shared, own) for key, value in given.items()}
    return {known[key].name or key: value_of(path, key, known[key], value) for key, value in merged.items() if key in known}


def read(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("lrfinder", {})
    except (ValueError, OSError) as error:
        raise BadArgument(
            f"{str(path)!r} cannot be read ({' '.join(str(error).split())}); correct it, or work in another folder."
        ) from None
    if not isinstance(table, dict):
        raise BadArgument(f"[{TABLE}] in {str(path)!r} is no table; write option = value under it.")
    return table


def plain(key: str) -> str:
    return key.replace("_", "-")


def options_of(command: click.Command) -> dict[str, click.Option]:
    """Options by their long names."""
    found: dict[str, click.Option] = {}
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name not in NOT_SET:
            found |= {name[2:]: parameter for name in parameter.opts if name.startswith("--")}
    return found


def check_keys(path: Path, table: str, values: object, known: list[str], owners: Mapping[str, Collection[str]]) -> None:
    """Refuse a key that no option has, with the nearest that one has, or the commands that have it."""
    if not isinstance(values, dict):
        raise BadArgument(f"[{table}] in {str(path)!r} is no table; write option = value under it.")
    for key in values:
        if plain(key) not in known:
            others = [name for name, options in owners.items() if plain(key) in options]
            near = difflib.get_close_matches(plain(key), known, 1, 0.0)
            hint = f" of that command, but of {', '.join(others)}" if others else f"; the nearest is {near[0]!r}"
            raise BadArgument(f"{key!r} under [{table}] in {str(path)!r} is no option{hint}.")


def value_of(path: Path, key: str, option: click.Option, value: Any) -> Any:
    """The value as on the command line; click checks it further."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise BadArgument(f"{key} = {value!r} in {str(path)!r} is neither true nor false; {key} is a flag.")
        return (option.flag_value is not False) if value else None  # a flag that turns something off has False
    if option.multiple:
        return many(path, key, value)
    if isinstance(value, (bool, list, dict)):
        raise BadArgument(f"{key} = {value!r} in {str(path)!r} is no value that --{key} takes; write it as on the command line.")
    return str(value)


def many(path: Path, key: str, value: Any) -> list[str]:
    """Several values: a list, or one; for ``set`` also a table."""
    if isinstance(value, dict) and key == "set":
        return [f"{name}={each}" for name, each in value.items()]
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in values):
        raise BadArgument(f'{key} = {value!r} in {str(path)!r} is no list of texts; write {key} = ["..."].')
    return values
