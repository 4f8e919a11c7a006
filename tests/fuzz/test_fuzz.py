"""Random damage: saved files that are bent, and command lines with trainings that are broken. A minute in all, or ``--fuzz-seconds``.

Each function goes through the seeds of corpus.json first, then on from its own place until its time is up. A failure names its seed:
put that into corpus.json.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import random
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import python
from test_find import every_result

from hessian.errors import BadArgument
from hessian.result_base import Result
from lrfinder import load
from lrfinder.cli import run

CORPUS: dict[str, list[int]] = json.loads(Path(__file__).with_name("corpus.json").read_text())
DOCUMENTED = {0, 1, 2, 3}  # 130 and 143 need a signal
JUNK: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**62, 2**63, -(2**64), 10**400, 0.0, -0.0, 5e-324, 1e-300, 1e300, 1.7e308, -1e308, 0.5),
    *("", "nan", "inf", "-inf", "NaN", "$", "$\\frac{", "\ud800", "\0", "\x1b[2J", "x" * 3000, "模型", "\n", "lr_curve", "completed"),
    *([], [None], [[]], [1.0], ["nan"], {}, {"": 0}, {"kind": "lr_curve"}, {"a": "inf"}),
]
WORDS = [
    b"NaN",
    b"1e999",
    b"-",
    b"[",
    b"]",
    b"{",
    b"}",
    b'"',
    b",",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"\0",
    b"\xef\xbb\xbf",
    b"null",
    b"9" * 5000,
]


def seeds(name: str, request: pytest.FixtureRequest, share: float) -> Iterator[int]:
    """The committed seeds, then new ones until the share of the time is up."""
    yield from CORPUS[name]
    end = time.monotonic() + share * request.config.getoption("--fuzz-seconds")
    fresh = random.Random(name)
    while time.monotonic() < end:
        yield fresh.randrange(2**32)


# load ---------------------------------------------------------------------------------------------------------------------------


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    found = []
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            found += [(value, key), *places(value[key])]
    return found


def bend(value: Any, rng: random.Random) -> None:
    """Replace, remove, repeat or swap something in a JSON value; half of the time a field and not one of a hundred losses."""
    known = places(value)
    fields = [(holder, key) for holder, key in known if isinstance(holder, dict)]
    holder, key = rng.choice(fields if rng.random() < 0.6 else known)
    action = rng.random()
    if action < 0.7:
        holder[key] = copy.deepcopy(rng.choice(JUNK) if rng.random() < 0.7 else other(known, rng))
    elif action < 0.8:
        del holder[key]
    elif isinstance(holder, list):
        holder.insert(rng.randrange(len(holder) + 1), holder[key])
    else:
        holder[rng.choice(["colour", key + "x", ""])] = holder[key]


def other(known: list[tuple[Any, Any]], rng: random.Random) -> Any:
    holder, key = rng.choice(known)
    return holder[key]


def mangle(content: bytes, rng: random.Random) -> bytes:
    """Cut, overwrite or insert bytes."""
    for _ in range(rng.randint(1, 3)):
        here, there = sorted(rng.randrange(len(content) + 1) for _ in range(2))
        there = there if rng.random() < 0.3 else min(here + rng.randrange(8), len(content))
        content = content[:here] + rng.choice([b"", rng.choice(WORDS), bytes(rng.randrange(256) for _ in range(4))]) + content[there:]
    return content


def damaged(rng: random.Random) -> bytes:
    results = every_result()
    whole = json.loads(results[rng.choice(sorted(results))].to_json())
    for _ in range(rng.randint(0, 3)):
        if places(whole):
            bend(whole, rng)
    with contextlib.suppress(ValueError):
        content = json.dumps(whole).encode()
        return content if rng.random() < 0.7 else mangle(content, rng)
    return b"{}"


@pytest.mark.parametrize("part", range(2))
def test_a_damaged_file_is_refused_or_gives_a_result_that_prints_draws_and_comes_back(part, request, tmp_path):
    path = tmp_path / "result.json"
    for count, seed in enumerate(seeds("load", request, 0.15)):
        rng = random.Random(f"{part} {seed}")
        path.write_bytes(damaged(rng))
        said, found = "", None
        try:
            found = load(path)
        except BadArgument as error:
            said = str(error)
        assert "\n" not in said, seed
        assert len(said) < 1000, seed
        try:
            if found is not None:
                check(found, tmp_path, draw=count % 10 == 0)
        except Exception as error:
            raise AssertionError(f"part {part}, seed {seed}: {path.read_bytes()[:3000]!r}") from error


def check(found: Result, folder: Path, draw: bool) -> None:
    """It prints, explains itself, comes back, and has its table, its picture and its page, or says that it has none."""
    assert str(found)
    assert not hasattr(found, "explain") or found.explain()
    assert load(found.save(folder / "again.json")) == found
    for suffix in (".csv", ".png", ".html")[: 3 if draw else 1]:
        with contextlib.suppress(BadArgument):
            found.save(folder / f"again{suffix}")


# The command line ---------------------------------------------------------------------------------------------------------------

HEADER = """
import sys, math, torch
from torch import nn
print("importing")

def base(steps=8):
    model = nn.Linear(2, 1)
    x = torch.randn(32, 2, generator=torch.Generator().manual_seed(0))
    data = [(part, part.sum(1, keepdim=True)) for part in x.split(4)]
    return {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1), "data": data, "criterion": nn.MSELoss(),
            "budget": 60, "curvature": False, "total_steps": 20}

class Odd(Exception):
    def __str__(self): raise RuntimeError("no words")

def raises(*arguments): raise Odd()
"""
BODIES = [
    "def make(): return base()",
    "def make(hidden=3, *, deep=None): return base()",
    "def make(): return {**base(), 'curvature': True}",
    "def make(:",
    "nothing = 1",
    "make = 3",
    "def make(): return None",
    "def make(): return [1, 2]",
    "def make(): raise ValueError('mine')",
    "def make(): raise Odd()",
    "def make(): sys.exit(0)",
    "def make(): raise KeyError",
    "def make(): raise FileNotFoundError(2, 'mine', 'data.csv')",
    "raise OSError('mine')",
    "sys.exit(3)",
    "def make(x): return base()",
    "def make(): return {**base(), 'criterion': lambda output, target: output.sum() * math.nan}",
    "def make(): return {**base(), 'criterion': lambda output, target: None}",
    "def make(): return {**base(), 'criterion': lambda output, target: output}",
    "def make(): return {**base(), 'criterion': lambda output, target: 3.0}",
    "def make(): return {**base(), 'criterion': lambda output, target: output.sum() * 1e38}",
    "def make(): return {**base(), 'criterion': raises}",
    "def make(): return {**base(), 'criterion': torch.dot}",
    "def make(): return {**base(), 'criterion': divmod}",
    "def make(): return {**base(), 'criterion': None, 'loss_fn': len}",
    "def make(): return {**base(), 'data': torch.empty}",
    "def make(): return {**base(), 'data': []}",
    "def make(): return {**base(), 'data': iter(base()['data'])}",
    "def make(): return {**base(), 'data': None}",
    "def make(): return {**base(), 'data': lambda: [None] * 9}",
    "def make(): return {**base(), 'model': None}",
    "def make(): return {**base(), 'model': nn.Linear(2, 1)}",
    "def make(): return {**base(), 'optimizer': None}",
    "def make(): return {**base(), 'budget': 'lots'}",
    "def make(): return {**base(), 'seed': 2**70}",
    "def make(): return {**base(), 'total_steps': 10**30}",
    "def make(): return {**base(), 'start_lr': math.nan}",
    "def make(): return {**base(), 'schedule': ['cosine']}",
    "def make(): return {**base(), 3: 4}",
    "def make(): print('x' * 1000); return base()",
    "import missing_package_of_the_user\ndef make(): return base()",
    "def make(): return make()",
    "\0",
]
VALUES = [
    "",
    "0",
    "1",
    "-1",
    "5",
    "60",
    "1e-3",
    "1e999",
    "nan",
    "-inf",
    "quick",
    "²",
    "--",
    "cosine",
    "linear",
    "cpu",
    "gpu",
    "9" * 5000,
    "1_0",
    "x",
]
OPTIONS = [
    "--seed",
    "--total-steps",
    "--schedule",
    "--budget",
    "--start-lr",
    "--end-lr",
    "--device",
    "--num-iter",
    "--mode",
    "--rule",
    "--tol",
]
OPTIONS += ["--num-batches", "--optimizer", "--lr"]
SETTINGS = ["hidden=3", "hidden", "deep=[1,", "deep=" + "(" * 300, "deep={[]: 1}", "=", "x=1", 'deep="\\d"', "hidden=\ud800", "a b=1"]
PATHS = [
    "lr.json",
    "lr.csv",
    "lr.png",
    "lr",
    "none/lr.json",
    "folder.json",
    "",
    ".json",
    "x" * 300 + ".json",
    "lr.JSON",
    "a\0.json",
    "\udcff.csv",
]
TARGETS = [
    "train:make",
    "train.py:make",
    "train:",
    ":",
    "",
    "train",
    "none:make",
    "none.py:make",
    "folder.json:make",
    "math:sqrt",
    "os.path:join",
    "train.x:make",
]


def command(rng: random.Random) -> list[str]:
    """Mostly right, so that a measurement starts; with options that need not fit."""
    name = rng.choice(["find"] * 4 + ["range-test"] * 3 + ["stable-lr", "stable-lr", "plot", "demo", "search", "--help", ""])
    arguments = [name]
    if name == "plot":
        arguments += [rng.choice(["junk.json", "lr.json", "none.json", "folder.json", "train.py"]) for _ in range(rng.randint(0, 2))]
    elif name == "demo":
        return [*arguments, rng.choice(["none", "--budget=5", "--budget=²", "--seed=-1", "-h"])]
    else:
        arguments.append("train.py:make" if rng.random() < 0.8 else rng.choice(TARGETS))
    for _ in range(rng.choice([0, 0, 0, 1, 1, 2])):
        arguments += [rng.choice(OPTIONS), rng.choice(VALUES)]
    if rng.random() < 0.15:
        arguments += ["--set", rng.choice(SETTINGS)]
    if rng.random() < 0.5:
        arguments += ["-o", rng.choice(PATHS[:3] if rng.random() < 0.6 else PATHS)]
    return arguments + ["--quiet"] * (rng.random() < 0.3)


def folder_for(rng: random.Random, folder: Path) -> None:
    """Where the user stands."""
    (folder / "folder.json").mkdir(exist_ok=True)
    (folder / "junk.json").write_bytes(damaged(rng))
    body = rng.choice(BODIES) if rng.random() < 0.7 else BODIES[rng.randrange(3)]
    (folder / "train.py").write_text(f"{HEADER}\n{body}\n")


def answer(arguments: list[str]) -> tuple[int, str]:
    """Exit status and stderr, in this process."""
    out, err = io.StringIO(), io.StringIO()
    known, path = set(sys.modules), list(sys.path)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the user's code, and torch's
        try:
            return run(arguments), err.getvalue()
        finally:
            sys.path[:] = path
            for name in set(sys.modules) - known & {"train"} | {"train"}:
                sys.modules.pop(name, None)


def assert_documented(status: int, err: str, what: str) -> None:
    assert status in DOCUMENTED, (what, status, err)
    assert ("Traceback" in err) <= (status == 1), (what, err)
    if status == 1:  # what is not written in Python has no traceback to show, and a syntax error says itself where
        assert any(words in err for words in ("Traceback", "(the built-in ", "SyntaxError: ")), (what, err)
    if "Traceback" in err:  # of the user's code, and none of ours on the way
        first = err[err.index("Traceback") :].splitlines()[1]
        assert "lrfinder/" not in first.replace(os.getcwd(), ""), (what, err)
        assert "hessian/" not in first, (what, err)


@pytest.mark.parametrize("part", range(2))
def test_any_command_line_ends_with_a_documented_status_and_no_traceback_of_ours(part, request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in seeds("command_line", request, 0.25):
        rng = random.Random(f"{part} {seed}")
        folder_for(rng, tmp_path)
        arguments = command(rng)
        what = f"part {part}, seed {seed}: {arguments} {(tmp_path / 'train.py').read_text()[len(HEADER) :][:200]}"
        try:
            status, err = answer(arguments)
        except BaseException as error:
            raise AssertionError(what) from error
        assert_documented(status, err, what)


def test_real_processes_end_so_too(request, tmp_path):
    for seed in seeds("processes", request, 0.05):
        rng = random.Random(seed)
        folder_for(rng, tmp_path)
        arguments = [argument for argument in command(rng) if "\0" not in argument and "\ud800" not in argument]
        done = python("-m", "lrfinder", *arguments, folder=tmp_path)
        assert_documented(done.returncode, done.stderr, f"seed {seed}: {arguments}")
