"""``module:factory`` or ``path/train.py:factory`` to the arguments of a measurement. Imports nothing heavy by itself."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from traceback import walk_tb
from types import FunctionType, MethodType, ModuleType, TracebackType
from typing import Any

from hessian.errors import BadArgument

Settings = dict[str, Any]
CALLED = ("criterion", "loss_fn", "step_fn", "data")  # may be functions of the user


def resolve(target: str) -> Callable[..., Any]:
    """The factory that a target names; raises whatever importing the user's module does."""
    place, _, name = target.rpartition(":")
    is_module = all(part.isidentifier() for part in place.split("."))
    if not (name.isidentifier() and (is_module or place.endswith(".py"))):
        raise BadArgument(f"target {target!r} is not of the form module:factory or path/train.py:factory.")
    source = find_source(place)
    if source is not None and not may_define(source, name):
        raise BadArgument(missing_name(place, name, source))
    module = load_file(source) if place.endswith(".py") and source else importlib.import_module(place)
    factory = getattr(module, name, None)
    if factory is None:
        raise BadArgument(missing_name(place, name, source))
    if not callable(factory):
        raise BadArgument(f"{target} is a {type(factory).__name__}, not a function; point at one that returns the arguments of find_lr.")
    return factory  # type: ignore[no-any-return]


def find_source(place: str) -> Path | None:
    """The file of a module, without importing it; None for a module that has none."""
    if place.endswith(".py"):
        if not Path(place).is_file():
            raise BadArgument(f"there is no file {place!r} (looked from {Path.cwd()}); check the path before the colon.")
        return Path(place)
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` does: users name their module from where they stand
    try:
        spec = importlib.util.find_spec(place)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise  # the module is there; something that it imports is not
        spec = None
    except ValueError:  # __main__ has none
        spec = None
    if spec is None:
        raise BadArgument(f"there is no module {place!r}; name one that can be imported from here, or a path such as train.py:make.")
    return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None


def may_define(source: Path, name: str) -> bool:
    """Whether a file can define a top-level name, read off its syntax: importing torch only to say no would take seconds."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # importing it will give them
            tree = ast.parse(source.read_bytes())
    except SyntaxError:
        return True  # importing it shows the user where
    except (ValueError, MemoryError, RecursionError) as error:
        raise BadArgument(
            f"{str(source)!r} is no Python source ({str(error) or 'nested too deeply'}); name a file that Python runs."
        ) from None
    words = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    words |= {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
    words |= {node.asname or node.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.alias)}
    return name in words or not words.isdisjoint({"*", "__getattr__", "globals", "exec", "setattr"})


def missing_name(place: str, name: str, source: Path | None) -> str:
    """The sentence for it, with the names that there are."""
    body = [] if source is None else ast.parse(source.read_bytes()).body
    functions = [node.name for node in body if isinstance(node, ast.FunctionDef)]
    known = f"it defines {', '.join(functions[:8])}" if functions else "it defines no function"
    return f"{place} has no {name!r} ({known}); name the function that returns the arguments of find_lr."


def load_file(path: Path) -> ModuleType:
    """Import a file by its path, with its folder importable, as running it would."""
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader  # as every .py file has them
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # data loader workers and pickling look their classes up here
    spec.loader.exec_module(module)
    return module


def parse_settings(pairs: Iterable[str]) -> Settings:
    """``k=v`` texts as arguments."""
    settings: Settings = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.isidentifier():
            raise BadArgument(f"--set {pair!r} is not of the form name=value.")
        settings[key] = literal(text)
    return settings


def literal(text: str) -> Any:
    """What the text says in Python, else the text: also where it only looks like a literal, or is nested too deeply for one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as of "\\d", which is no mistake here
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return text


def call_factory(factory: Callable[..., Any], settings: Settings) -> Settings:
    name = getattr(factory, "__name__", "the factory")
    try:
        inspect.signature(factory).bind(**settings)
    except TypeError as error:
        raise BadArgument(f"{name} cannot be called with {settings or 'no arguments'} ({error}); use --set name=value.") from None
    except ValueError:
        raise BadArgument(f"{name} is built in and does not say what it takes; name a function of your own.") from None
    made = factory(**settings)
    if not isinstance(made, Mapping):
        raise BadArgument(f"{name} returned a {type(made).__name__}; return a mapping of find_lr's arguments: model, optimizer, data, ...")
    return dict(made)


class Frameless:
    """A user's function that is not written in Python and leaves no frame in a traceback; its call through this one does."""

    def __init__(self, argument: str, function: Callable[..., Any]) -> None:
        self.argument, self.function = argument, function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __str__(self) -> str:
        return f"{self.argument} (the built-in {getattr(self.function, '__name__', type(self.function).__name__)})"


def framed(made: Settings) -> Settings:
    """The same arguments, those of the user's functions that leave no frame as ``Frameless``."""
    return {name: Frameless(name, value) if name in CALLED and is_frameless(value) else value for name, value in made.items()}


def is_frameless(value: Any) -> bool:
    """Whether it is called without Python code of its own; not so data, which have no need to be called."""
    if not callable(value) or isinstance(value, (FunctionType, MethodType)) or hasattr(value, "__iter__"):
        return False
    return not any(isinstance(vars(kind).get("__call__"), FunctionType) for kind in type(value).__mro__)


def frameless_in(trace: TracebackType | None) -> Frameless | None:
    """The function of that kind whose call a traceback shows."""
    frames = (frame for frame, _ in walk_tb(trace))
    return next((frame.f_locals["self"] for frame in frames if frame.f_code is Frameless.__call__.__code__), None)


def accepted(function: Callable[..., Any], made: Settings, others: Iterable[Callable[..., Any]]) -> Settings:
    """Those settings that ``function`` takes, without those that only ``others`` do; unknown ones are refused."""
    own = set(inspect.signature(function).parameters)
    known = own.union(*(inspect.signature(other).parameters for other in others))
    unknown = sorted(set(made) - known)
    if unknown:
        raise BadArgument(f"the factory returned {unknown[0]!r}, which is no argument of find_lr; known are {', '.join(sorted(known))}.")
    for needed in ("model", "optimizer", "data"):
        if needed not in made:
            raise BadArgument(f"the factory returned no {needed!r}; return a mapping with model, optimizer, data and a loss.")
    return {key: value for key, value in made.items() if key in own}
