"""The command line around the measurements: explain and compare, defaults from pyproject.toml, completion, colours, the log."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import LRFINDER, call, lrfinder, python
from curves import make_curve, make_limit, piecewise
from terminal import frames, run_on_terminal, screen

from hessian.results import Estimate
from lrfinder import __version__, load, suggest_lr
from lrfinder.cli import cli, run
from lrfinder.cli.defaults import defaults_for
from lrfinder.cli.options import LogHandler
from lrfinder.cli.words import coloured

LR_GRID = np.geomspace(1e-6, 1.0, 61)
VALLEY = piecewise([(-6, 2.0), (-3, 2.0), (-2, 0.5), (-1, 0.5), (0, 4.0)], np.log10(LR_GRID))
CURVE = make_curve(VALLEY, LR_GRID, status="diverged")

TRAIN = """
import time

import torch
from torch import nn


def make(wait=0.0):
    torch.manual_seed(0)
    inputs = torch.randn(512, 4)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    def criterion(output, target):
        time.sleep(wait)
        return (output - target).square().mean()
    data = list(zip(inputs.split(64), inputs.sum(1, keepdim=True).split(64)))
    return {"model": model, "optimizer": optimizer, "data": data, "criterion": criterion, "total_steps": 200, "budget": "quick"}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user stands, with a training and saved results."""
    (tmp_path / "train.py").write_text(TRAIN)
    suggest_lr(CURVE, make_limit(0.02), total_steps=100).save(tmp_path / "sgd.json")
    CURVE.save(tmp_path / "curve.json")
    make_limit(0.02).save(tmp_path / "limit.json")
    Estimate(value=1.0, error=0.1, hvps=3).save(tmp_path / "estimate.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command, in this process."""
    status = run(arguments)
    out, err = capsys.readouterr()
    return status, out, err


# explain and compare --------------------------------------------------------------------------------------------------------------


def test_explain_tells_of_every_kind_of_saved_result(folder, capsys):
    status, out, err = said(["explain", "sgd.json", "curve.json", "limit.json"], capsys)
    assert (status, err) == (0, "")
    assert out == "\n\n".join(load(name).explain() for name in ("sgd.json", "curve.json", "limit.json")) + "\n"
    assert max(map(len, out.splitlines())) <= 80


def test_explain_refuses_what_has_no_story(folder, capsys):
    status, out, err = said(["explain", "estimate.json"], capsys)
    assert (status, out) == (2, "")
    assert "'estimate.json' holds a estimate, which has nothing to explain" in err
    assert said(["explain", "none.json"], capsys)[0] == 2


def test_compare_prints_the_table_and_writes_the_picture(folder, capsys):
    status, out, err = said(["compare", "sgd.json", "curve.json", "limit.json", "-o", "c.png", "-o", "c.csv"], capsys)
    assert (status, err) == (0, "wrote c.png\nwrote c.csv\n")
    assert [line.split()[0] for line in out.splitlines()[1:4]] == ["sgd", "curve", "limit"]
    assert (folder / "c.png").read_bytes().startswith(b"\x89PNG")
    status, _, err = said(["compare", "estimate.json"], capsys)
    assert status == 2
    assert "compare cannot take the Estimate from 'estimate.json'" in err


# Defaults from pyproject.toml -----------------------------------------------------------------------------------------------------


def test_options_have_their_defaults_from_the_nearest_file_and_the_command_line_wins(folder, capsys):
    (folder / "pyproject.toml").write_text(
        "[tool.lrfinder]\nseed = 3\nquiet = true\n[tool.lrfinder.find]\nbudget = 70\nno-curvature = true\nstart_lr = 1e-5\n"
        'set = {wait = 0.0}\noutput = ["one.json"]\n[tool.lrfinder.range-test]\nnum-iter = 12\n'
    )
    status, out, err = said(["find", "train.py:make"], capsys)
    assert (status, err) == (0, "wrote one.json\n")
    found = load("one.json")
    assert out == f"{found.lr:.6g}\n"
    assert (found.curve.seed, found.limit) == (3, None)
    assert found.curve.start_lr >= 1e-5
    assert found.gradients < 100
    assert said(["range-test", "train.py:make", "--seed", "4", "-o", "two.json"], capsys)[0] == 0
    curve = load("two.json")
    assert (curve.num_iter, curve.seed) == (12, 4)


def test_the_file_may_lie_above_and_the_nearest_one_counts(folder, capsys, monkeypatch):
    (folder / "pyproject.toml").write_text('[tool.lrfinder.compare]\noutput = ["above.csv"]\n')
    below = folder / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert said(["compare", "../../sgd.json"], capsys)[2] == "wrote above.csv\n"
    (folder / "a" / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert said(["compare", "../../sgd.json"], capsys)[2] == ""


WRONG_FILES = {
    "unknown option": (
        "[tool.lrfinder.find]\nbugdet = 1",
        "'bugdet' under [tool.lrfinder.find] in ",
        " is no option; the nearest is 'budget'.",
    ),
    "unknown for all": ("[tool.lrfinder]\nsede = 1", "'sede' under [tool.lrfinder] in ", " is no option; the nearest is 'seed'."),
    "unknown command": ("[tool.lrfinder.fnid]\nseed = 1", "'fnid' under [tool.lrfinder] in ", " is no option; the nearest is 'find'."),
    "option of another": (
        "[tool.lrfinder.find]\nnum-iter = 1",
        "'num-iter' under [tool.lrfinder.find]",
        " is no option of that command, but of range-test.",
    ),
    "no flag": ("[tool.lrfinder.find]\nquiet = 1", "quiet = 1 in ", " is neither true nor false; quiet is a flag."),
    "no value": ("[tool.lrfinder.find]\nseed = [1]", "seed = [1] in ", " is no value that --seed takes; write it as on the command line."),
    "no texts": ("[tool.lrfinder.find]\noutput = [1]", "output = [1] in ", ' is no list of texts; write output = ["..."].'),
    "no table": ("[tool]\nlrfinder = 1", "[tool.lrfinder] in ", " is no table; write option = value under it."),
    "no table of a command": ("[tool.lrfinder]\nfind = 1", "[tool.lrfinder.find] in ", " is no table; write option = value under it."),
    "no TOML": ("[tool.lrfinder\n", "pyproject.toml' cannot be read (", "; correct it, or work in another folder."),
}


@pytest.mark.parametrize(("text", "cause", "cure"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_a_wrong_file_is_one_sentence(text, cause, cure, folder, capsys):
    (folder / "pyproject.toml").write_text(text)
    status, out, err = said(["find", "train.py:make"], capsys)
    assert (status, out) == (2, "")
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert cause in err
    assert err.rstrip("\n").endswith(cure) or cure in err
    assert said(["find", "--help"], capsys)[0] == 0  # help does not depend on it


def test_a_value_that_an_option_refuses_says_that_it_comes_from_the_file(folder, capsys):
    (folder / "pyproject.toml").write_text("[tool.lrfinder]\nseed = -1\n")
    status, _, err = said(["find", "train.py:make"], capsys)
    assert status == 2
    assert "Invalid value for '--seed'" in err
    assert err.endswith("That value stands under [tool.lrfinder] in the nearest pyproject.toml.\n")
    assert "pyproject.toml" not in said(["find", "train.py:make", "--seed", "-1"], capsys)[2]


def test_the_file_that_the_page_shows_is_one_that_is_taken(folder):
    page = (Path(__file__).parents[2] / "docs" / "terminal.md").read_text()
    (block,) = re.findall(r"^```toml\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    (folder / "pyproject.toml").write_text(block)
    found = defaults_for(cli.commands["find"])
    assert found == {
        "device": "cuda",
        "budget": "thorough",
        "total_steps": "20000",
        "schedule": "cosine",
        "curvature": False,
        "pairs": ["hidden=64"],
        "outputs": ["lr.json", "lr.png"],
    }


# Completion -----------------------------------------------------------------------------------------------------------------------

COMPLETIONS = {
    "commands": ("lrfinder e", 1, ["plain,explain"]),
    "options": ("lrfinder find --sch", 2, ["plain,--schedule"]),
    "choices": ("lrfinder find --schedule on", 3, ["plain,onecycle"]),
    "trainings": ("lrfinder demo digits-c", 2, ["plain,digits-cnn"]),
    "files": ("lrfinder explain sg", 2, ["file,sg"]),
    "targets": ("lrfinder find tr", 2, ["file,tr"]),
}


@pytest.mark.parametrize(("words", "place", "answer"), COMPLETIONS.values(), ids=COMPLETIONS)
def test_bash_is_told_what_may_follow(words, place, answer, folder):
    done = call([LRFINDER], folder, _LRFINDER_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(place))
    assert (done.stdout.split(), done.stderr) == (answer, "")


def test_bash_is_told_so_beside_a_file_of_defaults_that_is_wrong_too(folder):
    (folder / "pyproject.toml").write_text("[tool.lrfinder]\nbudgett = 1\n")
    done = call([LRFINDER], folder, _LRFINDER_COMPLETE="bash_complete", COMP_WORDS="lrfinder find --sch", COMP_CWORD="2")
    assert (done.stdout.split(), done.stderr) == (["plain,--schedule"], "")


def test_the_line_for_bash_makes_bash_complete(folder):
    script = 'eval "$(_LRFINDER_COMPLETE=bash_source lrfinder)"; COMP_WORDS=(lrfinder st); COMP_CWORD=1; _lrfinder_completion lrfinder; '
    script += 'echo "${COMPREPLY[@]}"; complete -p lrfinder'
    done = call(["bash", "-c", script], folder, PATH=f"{Path(LRFINDER).parent}:/usr/bin:/bin")
    assert done.stdout.split("\n")[0] == "stable-lr"
    assert "_lrfinder_completion lrfinder" in done.stdout


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_get_their_script(shell, folder):
    done = call([LRFINDER], folder, _LRFINDER_COMPLETE=f"{shell}_source")
    assert "lrfinder" in done.stdout


def test_what_the_page_says_of_the_shells_is_what_is_tested_here():
    page = (Path(__file__).parents[2] / "docs" / "terminal.md").read_text()
    for shell in ("bash", "zsh", "fish"):
        assert f"_LRFINDER_COMPLETE={shell}_source lrfinder" in page
    for name in cli.commands:
        assert f"`lrfinder {name}" in page


def test_version(folder):
    assert lrfinder("--version", folder=folder).stdout == f"lrfinder, version {__version__}\n"


# The log --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def quiet_again():
    """The log as it was."""
    yield
    logger = logging.getLogger("lrfinder")
    logger.setLevel(logging.NOTSET)
    logger.handlers = [handler for handler in logger.handlers if not isinstance(handler, LogHandler)]


@pytest.mark.usefixtures("quiet_again")
@pytest.mark.parametrize("place", ["before", "after"])
def test_verbose_says_what_is_decided_on_stderr_alone(place, folder, capsys):
    words = ["find", "train.py:make", "--quiet"]
    status, out, err = said(["-v", *words] if place == "before" else [*words, "--verbose"], capsys)
    assert status == 0
    assert re.fullmatch(r"[\d.e-]+\n", out)
    topics = re.findall(r"^lrfinder: ([a-z ]+)[: ]", err, flags=re.MULTILINE)
    assert [topic.split()[0] for topic in topics] == ["budget", "sweep", "short", "curvature", "lr", "check"]
    assert "lrfinder: lr " in err
    assert "x2 (1cycle peak)" in err


def test_the_library_logs_the_same_to_whoever_listens(folder, caplog):
    from lrfinder import find_lr
    from lrfinder.demo import make

    with caplog.at_level(logging.DEBUG, logger="lrfinder"):
        found = find_lr(**make("digits-mlp"), budget=60, curvature=False)
    assert [record.levelname for record in caplog.records] == ["DEBUG"] * len(caplog.records)
    assert f"lr {found.lr:.3g}: middle" in caplog.text


# A terminal -----------------------------------------------------------------------------------------------------------------------


def test_on_a_terminal_the_bar_comes_and_goes_and_the_result_is_coloured(folder):
    status, text = run_on_terminal([LRFINDER, "find", "train.py:make", "--no-curvature", "-o", "lr.json"], folder)
    assert status == 0
    assert any(frame.startswith("coarse sweep") for frame in frames(text))
    assert [line for line in screen(text) if line] == [*str(load(folder / "lr.json")).split("\n"), "wrote lr.json"]
    assert "\x1b[1msuggested lr" in text


def test_ctrl_c_on_a_terminal_leaves_one_word_and_no_bar(folder):
    command = [LRFINDER, "find", "train.py:make", "--set", "wait=0.03", "-o", "lr.json"]
    status, text = run_on_terminal(command, folder, interrupt_at="training 2", NO_COLOR="1")
    assert status == 130
    assert [line for line in screen(text) if line] == ["wrote lr.json", "interrupted"]
    assert load(folder / "lr.json").lrs.size > 10


COLOURS = {
    "a terminal": ({}, True),
    "NO_COLOR": ({"NO_COLOR": "1"}, False),
    "an empty NO_COLOR": ({"NO_COLOR": ""}, True),
    "a dumb terminal": ({"TERM": "dumb"}, False),
}


@pytest.mark.parametrize(("settings", "expected"), COLOURS.values(), ids=COLOURS)
def test_there_are_colours_where_someone_wants_them(settings, expected, folder):
    status, text = run_on_terminal([LRFINDER, "explain", "sgd.json"], folder, **settings)
    assert status == 0
    assert ("\x1b[" in text) == expected
    assert [line for line in screen(text) if line] == [line for line in load(folder / "sgd.json").explain().split("\n") if line]


def test_there_are_no_colours_in_a_pipe(folder):
    assert "\x1b[" not in lrfinder("explain", "sgd.json", folder=folder).stdout
    done = call([LRFINDER, "explain", "none.json"], folder, NO_COLOR="", TERM="xterm")
    assert "\x1b[" not in done.stderr


def test_colours_change_no_letter():
    text = str(suggest_lr(CURVE, total_steps=10))
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured(text)) == text


# Fast -----------------------------------------------------------------------------------------------------------------------------


def test_what_only_reads_loads_no_torch(folder):
    code = "import sys; from lrfinder.cli import run; print([run(words) for words in "
    code += "(['explain', 'sgd.json'], ['compare', 'sgd.json', 'curve.json'], ['find', '--help'])], 'torch' in sys.modules)"
    done = python("-c", code, folder=folder)
    assert done.stdout.splitlines()[-1] == "[0, 0, 0] False"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is not there")
def test_a_file_without_our_table_costs_no_command_anything(folder):
    (folder / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    done = python("-c", "import sys; from lrfinder.cli import run; run(['--help']); print('tomllib' in sys.modules)", folder=folder)
    assert done.stdout.splitlines()[-1] == "False"
