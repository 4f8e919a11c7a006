"""The command line, through the real entry point: what it prints where, what it writes, and how it ends."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import LRFINDER, environment, lrfinder, python
from matplotlib.image import imread
from versions import CLICK

from lrfinder import find_lr, load
from lrfinder.budget import split_budget
from lrfinder.curve import LRCurve
from lrfinder.demo import DEMOS, make

# A user's script. Importing and calling it prints, as scripts do; nothing of it may reach stdout.
TRAIN = """
import torch
from torch import nn

print("importing train.py")


class Descent:
    "Gradient descent by hand: making one from torch.optim loads torch's compiler, which takes longer than the whole measurement."

    def __init__(self, parameters, lr):
        self.param_groups, self.state = [{"params": list(parameters), "lr": lr}], {}

    def zero_grad(self):
        for parameter in self.param_groups[0]["params"]:
            parameter.grad = None

    @torch.no_grad()
    def step(self):
        for parameter in self.param_groups[0]["params"]:
            parameter -= self.param_groups[0]["lr"] * parameter.grad


def make(hidden=8, lr=0.1):
    print("making a training")
    torch.manual_seed(0)
    inputs = torch.randn(512, 4)
    model = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 1))
    return {
        "model": model,
        "optimizer": Descent(model.parameters(), lr),
        "data": list(zip(inputs.split(64), inputs.sum(1, keepdim=True).split(64))),
        "criterion": nn.MSELoss(),
        "total_steps": 200,
        "schedule": "constant",
        "budget": 100,
        "curvature": False,
        "seed": 5,
    }


def curved():
    training = make()
    optimizer = torch.optim.SGD(training["model"].parameters(), lr=0.1)
    return {**training, "optimizer": optimizer, "curvature": True}


def noise():
    "Targets that nothing can predict, and weights that can only get worse."
    training = make()
    nn.init.zeros_(training["model"][2].weight)
    nn.init.zeros_(training["model"][2].bias)
    training["data"] = lambda: (torch.randn(16, 4), torch.randn(16, 1))
    return {**training, "seed": 4}  # with two of the first twelve seeds the noise looks like a fall, and is called NOISY


def failing(at=115):
    "The loss function raises in the middle of the fine sweep, and tells what it had returned until then."
    import json, pathlib

    training, returned, criterion = make(), [], nn.MSELoss()

    def loss(output, target):
        if len(returned) == at:
            pathlib.Path("returned").write_text(json.dumps(returned))
            raise ZeroDivisionError("the user's own mistake")
        value = criterion(output, target)
        returned.append(value.item())
        return value

    return {**training, "criterion": loss, "budget": 110}


def endless(at=125):
    "From the step of the fine sweep on that writes the marker, every step takes its time: Ctrl-C will find the sweep at work."
    import pathlib, time

    training, calls, criterion = make(), [], nn.MSELoss()

    def loss(output, target):
        calls.append(1)
        if len(calls) >= at:
            pathlib.Path("marker").touch()
            time.sleep(0.1)
        return criterion(output, target)

    return {**training, "criterion": loss, "budget": 110}


def unknown_key():
    return {**make(), "learning_rate": 0.1}


def no_model():
    training = make()
    del training["model"]
    return training


def bad_range():
    return {**make(), "start_lr": 1.0, "end_lr": 0.1}
"""

# Without torch: what goes wrong before anything is measured must be said at once.
LIGHT = """
import json, pathlib


def make(width=8, scale=1.0, deep=False, name="none", sizes=()):
    values = [width, scale, deep, name, sizes]
    pathlib.Path("settings").write_text(repr(values))
    return values  # no mapping


def broken():
    raise RuntimeError("the user's own mistake")


def impatient():
    input("which? ")


nothing = None
constants = [1, 2]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the user stands."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "train.py").write_text(TRAIN)
    (tmp_path / "heavy.py").write_text(TRAIN)
    (tmp_path / "light.py").write_text(LIGHT)
    (tmp_path / "crash.py").write_text("raise RuntimeError('the user\\'s own mistake')\n\ndef make(): ...\n")
    (tmp_path / "needy.py").write_text("import a_package_that_is_not_installed\n\ndef make(): ...\n")
    (tmp_path / "typo.py").write_text("def make(:\n")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(0)\n\ndef make(): ...\n")
    package = tmp_path / "project"
    package.mkdir()
    (package / "__init__.py").write_text("import another_missing_package\n")
    (package / "part.py").write_text("def make(): ...\n")
    return tmp_path


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two saved results, made without a process."""
    folder = tmp_path_factory.mktemp("saved")
    for name in ("sgd", "adam"):
        find_lr(**make("digits-mlp", name), budget=60, curvature=name == "sgd").save(folder / f"{name}.json")
    return folder


def is_picture(path: Path) -> bool:
    return path.read_bytes().startswith({".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[path.suffix])


# demo -------------------------------------------------------------------------------------------------------------------------


def test_demo_prints_the_suggestion_and_writes_it_in_every_form(tmp_path: Path):
    wanted = [option for suffix in ("png", "json", "csv", "html") for option in ("-o", f"lr.{suffix}")]
    done = lrfinder("demo", "--budget", "60", *wanted, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "wrote lr.png\nwrote lr.json\nwrote lr.csv\nwrote lr.html\n")
    found = load(tmp_path / "lr.json")
    assert load(tmp_path / "lr.html") == found
    assert done.stdout == f"{found}\n"
    assert found == find_lr(**make("digits-mlp"), budget=60)  # the process found what the library finds
    assert found.limit is not None
    assert imread(tmp_path / "lr.png").shape[:2] == (720, 1200)
    with (tmp_path / "lr.csv").open(newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["lr", "loss", "smooth"]
    curve = found.curve
    points = [curve.lrs.tolist(), curve.losses.tolist(), curve.smooth.tolist()]
    assert repr([[float(row[column]) for row in rows] for column in range(3)]) == repr(points)  # as text: a NaN equals itself


def test_demo_takes_another_training_and_another_optimizer(tmp_path: Path):
    done = lrfinder(
        "demo", "digits-cnn", "--optimizer", "adam", "--seed", "3", "--budget", "60", "--quiet", "-o", "lr.json", folder=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "wrote lr.json\n")
    found = load(tmp_path / "lr.json")
    assert done.stdout == f"{found.lr:.6g}\n"
    assert found.curve.optimizer == "Adam"
    assert found.curve.seed == 3


def test_help_names_every_command_demo_and_exit_code(tmp_path: Path):
    done = lrfinder("--help", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for word in (
        "demo",
        "find",
        "range-test",
        "stable-lr",
        "plot",
        "0 found",
        "1 your code",
        "2 wrong",
        "3 no reliable",
        "130 Ctrl-C",
        "143 SIGTERM",
    ):
        assert word in done.stdout
    listed = "".join(lrfinder("demo", "-h", folder=tmp_path).stdout.split())  # lines are broken at hyphens too
    assert all(f"{name}:{text.replace(' ', '')}" in listed for name, text in DEMOS.items())


def test_version(tmp_path: Path):
    import lrfinder as package

    done = python("-m", "lrfinder", "--version", folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"lrfinder, version {package.__version__}\n")


# find, range-test, stable-lr ------------------------------------------------------------------------------------------------------


def test_find_takes_a_file_and_what_its_factory_says(folder: Path):
    done = python("-m", "lrfinder", "find", "scripts/train.py:make", "--set", "hidden=3", "-o", "lr.json", folder=folder)
    assert (done.returncode, done.stderr) == (0, "importing train.py\nmaking a training\nwrote lr.json\n")
    found = load(folder / "lr.json")
    assert done.stdout == f"{found}\n"
    assert (found.total_steps, found.schedule, found.curve.seed, found.limit) == (200, "constant", 5, None)
    assert found.curve.num_iter <= split_budget(100).finest < split_budget("standard").finest  # of the 100 gradients of the factory
    assert found.gradients <= 1.25 * 100


def test_find_takes_a_module_from_where_the_user_stands_and_options_win_over_its_factory(folder: Path):
    given = {"--total-steps": "500", "--schedule": "cosine", "--budget": "80", "--seed": "4", "--start-lr": "1e-5", "--end-lr": "10"}
    options = [word for pair in given.items() for word in pair]
    done = lrfinder("find", "heavy:curved", *options, "--no-curvature", "--device", "cpu", "--quiet", "-o", "lr.json", folder=folder)
    assert done.returncode == 0
    found = load(folder / "lr.json")
    assert done.stdout == f"{found.lr:.6g}\n"  # the number and nothing else: the script's own prints went to stderr
    assert "making a training" in done.stderr
    assert (found.total_steps, found.schedule, found.limit) == (500, "cosine", None)
    curve = found.curve
    assert curve.seed == 4
    assert curve.num_iter <= split_budget(80).finest
    assert 1e-5 <= curve.start_lr < curve.end_lr <= 10.0


@pytest.mark.parametrize("target", ["light.py:make", "light:make"])
def test_set_passes_literals_as_what_they_are_and_the_rest_as_text(target: str, folder: Path):
    pairs = ["width=12", "scale=1e-3", "deep=True", "name=resnet-18", "sizes=[1, 2]"]
    lrfinder("find", target, *[word for pair in pairs for word in ("--set", pair)], folder=folder)
    assert (folder / "settings").read_text() == "[12, 0.001, True, 'resnet-18', [1, 2]]"


def test_range_test_prints_the_curve(folder: Path):
    done = lrfinder("range-test", "heavy:make", "--num-iter", "40", "--mode", "exponential", "-o", "lr.csv", "-o", "lr.json", folder=folder)
    assert done.returncode == 0
    curve = load(folder / "lr.json")
    assert isinstance(curve, LRCurve)
    assert done.stdout == f"{curve}\n"
    assert (curve.num_iter, curve.seed) == (40, 5)
    assert len((folder / "lr.csv").read_text().splitlines()) == len(curve.lrs) + 1


def test_range_test_records_accuracy_and_groups(folder: Path):
    """By options, and by what a factory returns; ``find`` leaves out what only a range test takes."""
    (folder / "grouped.py").write_text(
        "import torch\nfrom torch import nn\n\n"
        "def make():\n    torch.manual_seed(0)\n    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))\n"
        "    inputs = torch.randn(160, 4)\n    data = list(zip(inputs.split(16), (inputs[:, 0] > 0).long().split(16)))\n"
        "    groups = [{'params': model[0].parameters(), 'lr': 0.01}, {'params': model[2].parameters(), 'lr': 0.1}]\n"
        "    return {'model': model, 'optimizer': torch.optim.SGD(groups), 'data': data, 'criterion': nn.CrossEntropyLoss()}\n\n"
        "def scored():\n    made = make()\n    score = lambda model, batch: 0.5\n"
        "    return {**made, 'val_data': list(made['data'])[:2], 'metric': score, 'per_group': True}\n"
    )
    options = ["range-test", "--num-iter", "20", "-o", "lr.json"]
    done = lrfinder(*options, "grouped:make", "--metric", "accuracy", "--per-group", folder=folder)
    assert done.returncode == 0, done.stderr
    curve = load(folder / "lr.json")
    assert (curve.metric_name, len(curve.metric), len(curve.groups), curve.scored_on) == ("accuracy", len(curve.lrs), 2, "batch")
    assert lrfinder(*options, "grouped:scored", folder=folder).returncode == 0
    curve = load(folder / "lr.json")
    assert (set(curve.metric), len(curve.groups), curve.scored_on) == ({0.5}, 2, "val_data")
    assert lrfinder("find", "grouped:scored", "--no-curvature", folder=folder).returncode == 0


def test_range_test_prints_only_the_number_of_a_rule(folder: Path):
    (folder / "mine.py").write_text("import lrfinder, heavy\n\nlrfinder.rule('mine')(lambda lr, loss: 0.25)\nmake = heavy.make\n")
    done = lrfinder("range-test", "mine:make", "--rule", "mine", "--quiet", folder=folder)
    assert (done.returncode, done.stdout) == (0, "0.25\n")


def test_stable_lr_prints_the_limit(folder: Path):
    done = lrfinder("stable-lr", "heavy:curved", "--num-batches", "2", "--tol", "0.1", "-o", "lr.json", "-o", "lr.png", folder=folder)
    assert done.returncode == 0
    limit = load(folder / "lr.json")
    assert done.stdout == f"{limit}\n"
    assert (limit.num_batches, limit.tol, limit.seed) == (2, 0.1, 5)
    assert is_picture(folder / "lr.png")


# plot -----------------------------------------------------------------------------------------------------------------------------


def test_plot_draws_a_saved_result(saved: Path):
    done = lrfinder("plot", "sgd.json", "-o", "one.svg", "-o", "one.pdf", folder=saved)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "wrote one.svg\nwrote one.pdf\n")
    assert is_picture(saved / "one.svg")
    assert is_picture(saved / "one.pdf")


def test_plot_overlays_several_files(saved: Path):
    done = lrfinder("plot", "sgd.json", "adam.json", "-o", "both.svg", folder=saved)
    assert done.returncode == 0
    words = re.findall(r"<!-- (.+?) -->", (saved / "both.svg").read_text())  # matplotlib notes every text beside its glyphs
    for name in ("sgd", "adam"):
        found = load(saved / f"{name}.json")
        assert f"lr {found.lr:.2g}" in words
        assert any(word.startswith(found.curve.optimizer) for word in words)


PLOT_MISTAKES = {
    "no output": (["sgd.json"], "plot needs -o, such as -o lr.png."),
    "a table": (["sgd.json", "-o", "lr.csv"], "'lr.csv' ends in none of .png, .svg, .pdf."),
    "no file": (["none.json", "-o", "lr.png"], "File 'none.json' does not exist."),
    "no result": (["wrong.json", "-o", "lr.png"], "'wrong.json' is not a saved result"),
}


@pytest.mark.parametrize(("arguments", "words"), PLOT_MISTAKES.values(), ids=PLOT_MISTAKES)
def test_plot_refuses_what_it_cannot_do(arguments: list[str], words: str, saved: Path):
    (saved / "wrong.json").write_text('{"kind": "something else"}')
    done = lrfinder("plot", *arguments, folder=saved)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


# Wrong usage: one sentence, exit 2 ------------------------------------------------------------------------------------------------

IMPORTING, MAKING = "importing train.py\n", "making a training\n"
MISTAKES = {
    "no colon": (["light.py"], "target 'light.py' is not of the form module:factory or path/train.py:factory."),
    "no factory": (["light.py:"], "target 'light.py:' is not of the form module:factory or path/train.py:factory."),
    "no name": (["light:make()"], "target 'light:make()' is not of the form module:factory or path/train.py:factory."),
    "relative": ([".light:make"], "target '.light:make' is not of the form module:factory or path/train.py:factory."),
    "no module": (["lite:make"], "there is no module 'lite'; name one that can be imported from here, or a path such as train.py:make."),
    "no submodule": (["light.x:make"], "there is no module 'light.x'; name one that can be imported from here, or a path such as"),
    "no file": (["scripts/x.py:make"], "there is no file 'scripts/x.py' (looked from "),
    "no attribute": (["light:made"], "light has no 'made' (it defines make, broken, impatient); name the function that returns"),
    "no attribute in file": (
        ["scripts/train.py:made"],
        "scripts/train.py has no 'made' (it defines make, curved, noise, failing, endless,",
    ),
    "nothing": (["light:nothing"], "light has no 'nothing' (it defines make,"),
    "no function": (["light:constants"], "light:constants is a list, not a function; point at one that returns the arguments of find_lr."),
    "no mapping": (["light:make"], "make returned a list; return a mapping of find_lr's arguments: model, optimizer, data, ..."),
    "unknown setting": (["light:make", "--set", "depth=3"], "make cannot be called with {'depth': 3} (got an unexpected keyword"),
    "no value": (["light:make", "--set", "width"], "--set 'width' is not of the form name=value."),
}


@pytest.mark.parametrize(("arguments", "words"), MISTAKES.values(), ids=MISTAKES)
def test_wrong_targets_are_refused_in_one_sentence(arguments: list[str], words: str, folder: Path):
    assert_refused(lrfinder("find", *arguments, folder=folder), words)


HEAVY_MISTAKES = {
    "unknown key": (
        ["find", "heavy:unknown_key"],
        "the factory returned 'learning_rate', which is no argument of find_lr; known are accumulate, along,",
    ),
    "no model": (
        ["stable-lr", "heavy:no_model"],
        "the factory returned no 'model'; return a mapping with model, optimizer, data and a loss.",
    ),
    "found by find_lr": (["find", "heavy:bad_range"], "start_lr=1 is not below end_lr=0.1; swap them, or leave both out"),
    "budget": (["find", "heavy:make", "--budget", "5"], "budget=5 is too small; pass at least 60."),
    "device": (["find", "heavy:make", "--device", "gpu"], "device='gpu' cannot be used here (Expected one of cpu, "),
    "rule": (["range-test", "heavy:make", "--rule", "best"], "rule 'best' is unknown; choose one of minimum, slide, steepest, valley"),
}


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Exit status, stdout and stderr of every mistake above, from one process: each one of its own would load torch again."""
    folder = tmp_path_factory.mktemp("refusals")
    (folder / "heavy.py").write_text(TRAIN)
    code = f"""
        import contextlib, io, json
        from lrfinder.cli import run

        def answer(arguments):
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = run([*arguments, "-o", "lr.json"])
            return status, out.getvalue(), err.getvalue()

        mistakes = {HEAVY_MISTAKES!r}
        print(json.dumps({{name: answer(arguments) for name, (arguments, _) in mistakes.items()}}))
    """
    done = python("-c", textwrap.dedent(code), folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == ["heavy.py"]  # nothing was written
    answers: dict[str, list[Any]] = json.loads(done.stdout)
    return answers


@pytest.mark.parametrize("name", HEAVY_MISTAKES)
def test_arguments_that_cannot_be_right_are_refused_in_one_sentence(name: str, refusals: dict[str, list[Any]]):
    status, out, err = refusals[name]
    said = err.replace(IMPORTING, "").replace(MAKING, "")
    assert_refused(subprocess.CompletedProcess([], status, out, said), HEAVY_MISTAKES[name][1])


def assert_refused(done: subprocess.CompletedProcess[str], words: str) -> None:
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Error: {words}")
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith(".\n")


USAGE = {
    "suffix": (["find", "light:make", "-o", "lr.txt"], "'lr.txt' ends in none of .png, .svg, .pdf, .json, .csv, .html."),
    "suffix of a limit": (["stable-lr", "light:make", "-o", "lr.csv"], "'lr.csv' ends in none of .png, .svg, .pdf, .json, .html."),
    "no suffix": (["demo", "-o", "lr"], "'lr' ends in none of .png,"),
    "folder": (["find", "light:make", "-o", "no/such/lr.png"], "cannot write into the folder 'no/such'."),
    "schedule": (["find", "light:make", "--schedule", "step"], "'step' is not one of 'constant', 'onecycle', 'cosine', 'linear'."),
    "steps": (["find", "light:make", "--total-steps", "0"], "0 is not in the range x>=1."),
    "demo": (["demo", "mnist"], "'mnist' is not one of 'digits-mlp',"),
    "optimizer": (["demo", "--optimizer", "lion"], "'lion' is not one of 'sgd',"),
    "command": (["search"], "No such command 'search'."),
    "option": (["find", "light:make", "--lr", "1"], "No such option"),
    "nothing": (["find"], "Missing argument 'MODULE:FACTORY'."),
}


@pytest.mark.parametrize(("arguments", "words"), USAGE.values(), ids=USAGE)
def test_wrong_options_are_refused_before_the_users_code_is_touched(arguments: list[str], words: str, folder: Path):
    done = lrfinder(*arguments, folder=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Usage: lrfinder" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "settings").exists()


def test_no_command_shows_the_help(tmp_path: Path):
    done = lrfinder(folder=tmp_path)
    status, shown, empty = (2, done.stderr, done.stdout) if CLICK >= (8, 2) else (0, done.stdout, done.stderr)
    assert (done.returncode, empty) == (status, "")
    assert "Commands:" in shown


# The user's own errors: their traceback, exit 1 -------------------------------------------------------------------------------------

USER_ERRORS = {
    "at import": ("crash:make", 'crash.py", line 1', "RuntimeError: the user's own mistake"),
    "at import of a file": ("crash.py:make", 'crash.py", line 1', "RuntimeError: the user's own mistake"),
    "missing package": ("needy:make", 'needy.py", line 1', "ModuleNotFoundError: No module named 'a_package_that_is_not_installed'"),
    "missing package of a parent": ("project.part:make", '__init__.py", line 1', "No module named 'another_missing_package'"),
    "in the factory": ("light:broken", 'light.py", line 12', "RuntimeError: the user's own mistake"),
    "end of input": ("light:impatient", 'light.py", line 16', "EOFError"),
    "exit": ("leaves:make", 'leaves.py", line 2', "SystemExit: 0"),  # not "0 found"
}


@pytest.mark.parametrize(("target", "place", "words"), USER_ERRORS.values(), ids=USER_ERRORS)
def test_errors_of_the_users_code_show_their_traceback_and_none_of_ours(target: str, place: str, words: str, folder: Path):
    done = lrfinder("find", target, folder=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback (most recent call last):" in done.stderr
    assert place in done.stderr
    assert words in done.stderr
    assert "lrfinder/cli/" not in done.stderr
    assert "Error: there is no module" not in done.stderr


BUILT_IN = {
    "criterion": ("torch.dot", "criterion (the built-in dot) raised RuntimeError: 1D tensors expected, but got "),
    "partial": ("functools.partial(divmod)", "criterion (the built-in partial) raised TypeError: unsupported operand type(s) for divmod()"),
}


@pytest.mark.parametrize(("criterion", "words"), BUILT_IN.values(), ids=BUILT_IN)
def test_an_error_of_a_function_that_is_not_written_in_python_is_one_sentence(criterion: str, words: str, folder: Path):
    """There is no frame of the user's to show."""
    source = (
        "model = torch.nn.Linear(2, 2); data = [(torch.ones(4, 2), torch.ones(4, 2))] * 9; sgd = torch.optim.SGD(model.parameters(), lr=1)"
    )
    made = f"{{'model': model, 'optimizer': sgd, 'data': data, 'criterion': {criterion}}}"
    (folder / "built.py").write_text(f"import functools, torch\n{source}\ndef make(): return {made}\n")
    done = lrfinder("range-test", "built.py:make", folder=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {words}")
    assert done.stderr.endswith("; call it on one batch by hand.\n")
    assert done.stderr.count("\n") == 1


def test_a_typo_is_shown_as_python_shows_it(folder: Path):
    done = lrfinder("find", "typo.py:make", folder=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == python("typo.py", folder=folder).stderr


def test_an_error_in_the_middle_of_the_sweep_leaves_what_was_recorded(folder: Path):
    done = lrfinder("find", "heavy:failing", "-o", "lr.json", "-o", "lr.png", folder=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{IMPORTING}{MAKING}wrote lr.json\nwrote lr.png\nTraceback (most recent call last):\n")
    assert done.stderr.endswith("ZeroDivisionError: the user's own mistake\n")
    assert "lrfinder/cli/" not in done.stderr
    curve = load(folder / "lr.json")
    assert isinstance(curve, LRCurve)
    assert curve.status == "interrupted"
    assert 10 < len(curve.losses) < 40  # the first calls of 115 are not part of the fine sweep
    assert curve.losses.tolist() == json.loads((folder / "returned").read_text())[-len(curve.losses) :]
    assert is_picture(folder / "lr.png")


def test_an_error_in_our_own_code_is_shown_in_full(folder: Path):
    code = "import sys, lrfinder.cli as cli; cli.commands.parse_settings = None; sys.exit(cli.run(['find', 'light:make']))"
    done = python("-c", code, folder=folder)
    assert done.returncode == 1
    assert "lrfinder/cli/" in done.stderr
    assert "TypeError: 'NoneType' object is not callable" in done.stderr


# No reliable learning rate: exit 3 --------------------------------------------------------------------------------------------------


def test_noise_gives_no_learning_rate_but_its_curve(folder: Path):
    done = lrfinder("find", "heavy:noise", "--quiet", "-o", "lr.json", folder=folder)
    assert (done.returncode, done.stdout) == (3, "")
    *_, wrote, error = done.stderr.splitlines()
    assert wrote == "wrote lr.json"
    assert error.startswith("Error: the loss never falls by more than batch noise (from ")
    assert "Traceback" not in done.stderr
    assert isinstance(load(folder / "lr.json"), LRCurve)


def test_a_rule_that_finds_nothing_gives_no_number_but_the_curve_once(folder: Path):
    done = lrfinder("range-test", "heavy:make", "--num-iter", "5", "--quiet", "-o", "lr.json", folder=folder)
    assert (done.returncode, done.stdout) == (3, "")
    assert "Error: the curve has only 5 finite points" in done.stderr
    assert done.stderr.count("wrote lr.json") == 1
    assert len(load(folder / "lr.json").lrs) == 5


# Ctrl-C: exit 130 -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ctrl_c_reaches_children() -> Iterator[None]:
    """A shell starts background jobs with SIGINT ignored, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("command", ["find", "range-test"])
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.usefixtures("ctrl_c_reaches_children")
def test_a_signal_in_the_middle_of_the_sweep_leaves_what_was_recorded(command: str, sent: signal.Signals, status: int, folder: Path):
    steps = ["--num-iter", "60000"] if command == "range-test" else []
    code, out, err = stopped([command, "heavy:endless", *steps, "-o", "lr.json"], sent, folder)
    assert (code, out) == (status, "")
    assert err == f"{IMPORTING}{MAKING}wrote lr.json\ninterrupted\n"
    curve = load(folder / "lr.json")
    assert curve.status == "interrupted"
    assert 10 < len(curve.lrs) < 10_000


def test_a_background_job_ignores_ctrl_c_and_heeds_sigterm(folder: Path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code, out, err = stopped(["find", "heavy:endless", "-o", "lr.json"], signal.SIGTERM, folder)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (code, out, err) == (143, "", f"{IMPORTING}{MAKING}wrote lr.json\ninterrupted\n")
    assert load(folder / "lr.json").status == "interrupted"


def stopped(arguments: list[str], sent: signal.Signals, folder: Path) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command that gets a signal once its training has written the marker."""
    process = subprocess.Popen(
        [LRFINDER, *arguments], cwd=folder, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        while not (folder / "marker").exists():
            assert process.poll() is None, process.communicate()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.02)
        process.send_signal(sent)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, out, err


# Files that cannot be written: exit 2 ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_at_the_end_still_prints_the_result_and_writes_the_other_files(folder: Path):
    (folder / "full.json").symlink_to("/dev/full")
    done = lrfinder("range-test", "heavy:make", "--num-iter", "20", "-o", "full.json", "-o", "lr.json", folder=folder)
    assert done.returncode == 2
    assert done.stdout == f"{load(folder / 'lr.json')}\n"
    assert "Error: 'full.json' could not be written (No space left on device)" in done.stderr
    assert done.stderr.endswith("wrote lr.json\n")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_result_that_cannot_be_printed_is_saved_all_the_same(folder: Path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [LRFINDER, "range-test", "heavy:make", "--num-iter", "20", "-o", "lr.json"],
            cwd=folder,
            env=environment(),
            text=True,
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert (done.returncode, done.stderr) == (2, f"{IMPORTING}{MAKING}wrote lr.json\nError: [Errno 28] No space left on device\n")
    assert len(load(folder / "lr.json").lrs) == 20


# Late imports: what needs no torch must not wait for it -------------------------------------------------------------------------------

HEAVY = {"torch", "numpy", "scipy", "matplotlib", "tqdm"}
INSTANT = {
    "help": (["--help"], 0),
    "help of find": (["find", "--help"], 0),
    "version": (["--version"], 0),
    "no module": (["find", "lite:make"], 2),
    "no file": (["range-test", "lite.py:make"], 2),
    "no attribute": (["find", "heavy:made"], 2),  # heavy.py imports torch on its second line
    "no attribute in file": (["stable-lr", "scripts/train.py:made"], 2),
    "no colon": (["find", "heavy.py"], 2),
    "suffix": (["find", "heavy:make", "-o", "lr.txt"], 2),
    "folder": (["demo", "-o", "none/lr.png"], 2),
    "schedule": (["find", "heavy:make", "--schedule", "step"], 2),
    "demo": (["demo", "mnist"], 2),
}


def loaded_by(code: str, folder: Path) -> tuple[str, set[str]]:
    """What a piece of code prints last, and which heavy packages it leaves loaded."""
    report = f"import json, sys; print(); print(json.dumps(sorted({HEAVY!r} & set(sys.modules))))"
    done = python("-c", f"{textwrap.dedent(code)}\n{report}", folder=folder)
    assert done.returncode == 0, done.stderr
    *_, said, _, names = ["", *done.stdout.splitlines()]
    return said, set(json.loads(names))


@pytest.mark.parametrize(("arguments", "status"), INSTANT.values(), ids=INSTANT)
def test_help_and_mistakes_load_nothing_heavy(arguments: list[str], status: int, folder: Path):
    said, loaded = loaded_by(f"from lrfinder.cli import run; print(run({arguments!r}))", folder)
    assert (said, loaded) == (str(status), set())


def test_importing_the_packages_loads_nothing_heavy(tmp_path: Path):
    assert loaded_by("import lrfinder, hessian, lrfinder.demo; dir(lrfinder), dir(hessian)", tmp_path) == ("", set())


def test_reading_and_judging_a_saved_result_loads_no_torch(saved: Path):
    code = """
        import lrfinder
        found = lrfinder.load("sgd.json")
        str(found), found.curve.suggest(), lrfinder.suggest_lr(found.curve, found.limit, total_steps=10)
    """
    _, loaded = loaded_by(code, saved)
    assert loaded == {"numpy"}


def test_plot_loads_no_torch(saved: Path):
    said, loaded = loaded_by("from lrfinder.cli import run; print(run(['plot', 'sgd.json', '-o', 'late.svg']))", saved)
    assert said == "0"
    assert loaded == {"numpy", "matplotlib"}  # the check can fail, then: it sees what is loaded
