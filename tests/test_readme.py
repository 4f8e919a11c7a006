"""What the README and the docs tell users to type works: Python blocks run in order, commands run or are there to be run."""

from __future__ import annotations

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from commands import lrfinder, python

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
RUNNER = """
import json, sys
with open(sys.argv[1]) as stream:
    blocks = json.load(stream)
for first_line, code in blocks:
    exec(compile("\\n" * first_line + code, sys.argv[2], "exec"), globals())
"""


def blocks(text: str, *languages: str) -> list[tuple[int, str]]:
    """Fenced blocks of these languages, each with the number of lines above it."""
    return [(text[: found.start(2)].count("\n"), found[2]) for found in FENCE.finditer(text) if found[1] in languages]


def commands(text: str) -> list[list[str]]:
    """The words of every command in shell blocks."""
    lines = [line for _, block in blocks(text, "sh", "bash", "console", "shell") for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line.removeprefix("$ "), comments=True))]


PAGES = {page.name: page for page in (README, *sorted((ROOT / "docs").glob("*.md"))) if blocks(page.read_text(), "python")}
README_COMMANDS = commands(README.read_text())
OURS = [words for words in README_COMMANDS if words[0] == "lrfinder"]


def test_the_readme_has_something_to_run():
    assert len(blocks(README.read_text(), "python")) >= 2
    assert len(OURS) >= 3
    assert ["make", "demo"] in README_COMMANDS
    assert ["make", "test"] in README_COMMANDS


def test_blocks_and_commands_are_found():
    page = "text\n```python\na = 1\n```\n```sh\n$ make demo   # all\n\nlrfinder find 'a b' # x\n```\n```text\nno\n```\n"
    assert blocks(page, "python") == [(2, "a = 1\n")]
    assert commands(page) == [["make", "demo"], ["lrfinder", "find", "a b"]]


THEIRS = [  # warnings of frameworks about themselves and about each other
    *("-W", "ignore:Failed to load image Python extension"),
    *("-W", "ignore:`torch.jit"),
    *("-W", "ignore:Implicitly cleaning up:ResourceWarning"),  # torch 2.6, of its own folder
    *("-W", "ignore:`isinstance(treespec, LeafSpec)` is deprecated"),
    *("-W", "ignore:The 'train_dataloader' does not have many workers"),
]
SUGGESTED = re.compile(r"^suggested lr ([\d.e-]+) ", flags=re.MULTILINE)


@pytest.mark.parametrize("name", PAGES)
def test_python_blocks_run_in_order(name: str, tmp_path: Path):
    (tmp_path / "blocks.json").write_text(json.dumps(blocks(PAGES[name].read_text(), "python")))
    done = python("-W", "error", *THEIRS, "-c", RUNNER, "blocks.json", str(PAGES[name]), folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for written in re.findall(r'(?:save|plot)\("(.+?)"\)', PAGES[name].read_text()):
        assert (tmp_path / written).exists()
    shown, printed = SUGGESTED.findall(PAGES[name].read_text()), SUGGESTED.findall(done.stdout)
    assert printed or name != "README.md"
    if shown:  # to a third: other versions of torch round differently, and over a sweep that adds up
        assert [float(lr) for lr in shown] == pytest.approx([float(lr) for lr in printed], rel=0.33)


def test_a_block_that_fails_is_seen_with_its_line_in_the_page(tmp_path: Path):
    page = "# Title\n\n```python\nvalue = 1\n```\n\n```python\nassert value == 1\nvalue / 0\n```\n"
    (tmp_path / "blocks.json").write_text(json.dumps(blocks(page, "python")))
    done = python("-W", "error", "-c", RUNNER, "blocks.json", "page.md", folder=tmp_path)
    assert done.returncode == 1
    assert 'File "page.md", line 9' in done.stderr
    assert "ZeroDivisionError" in done.stderr


def test_the_file_and_the_command_of_the_start_page_run_together(tmp_path: Path):
    page = (ROOT / "docs" / "start.md").read_text()
    (factory,) = [block for _, block in blocks(page, "python") if "def make(" in block]
    (words,) = [words for words in commands(page) if words[:2] == ["lrfinder", "find"]]
    (tmp_path / words[2].partition(":")[0]).write_text(factory)
    done = lrfinder(*words[1:], folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"lr.png", "lr.json"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("words", OURS, ids=" ".join)
def test_commands_of_the_readme_run(words: list[str], tmp_path: Path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    done = lrfinder(*words[1:], folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    for option, written in pairwise(words):
        assert option != "-o" or (tmp_path / written).exists()


def test_every_other_command_is_one_that_the_repository_knows():
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for words in README_COMMANDS:
        if words[0] == "make":
            assert set(words[1:]) <= set(targets)
        else:
            assert words[0] in ("lrfinder", "pip", "git")


def test_every_command_of_the_docs_is_one_that_exists():
    import click

    from lrfinder.cli import cli

    for page in (ROOT / "docs").glob("*.md"):
        for words in commands(page.read_text()):
            if words[0] == "lrfinder":
                command = cli.commands[words[1]]
                command.make_parser(click.Context(command)).parse_args(words[2:])  # refuses an option that there is not
