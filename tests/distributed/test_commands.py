"""The examples and the command line under ``torchrun``: the first rank speaks, the others are silent."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from launch import ROOT, torchrun
from versions import SHARDS_ON_CPU

import lrfinder

EXAMPLES = ROOT / "examples"
PNG = b"\x89PNG\r\n\x1a\n"


def said(text: str) -> str:
    """Without what torchrun and torch say themselves."""
    return "\n".join(line for line in text.splitlines() if not re.match(r"(\[?[WE]\d{4} |\[rank\d\]:|\*{5}|Setting OMP)", line))


def test_ddp_finds_one_learning_rate_and_trains_with_it(tmp_path: Path):
    done = torchrun(str(EXAMPLES / "ddp.py"), ranks=2, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("suggested lr ") == 1
    assert float(re.findall(r"^last loss ([\d.]+)$", done.stdout, flags=re.MULTILINE)[0]) < 0.3  # 2.3 at the start


@pytest.mark.skipif(not SHARDS_ON_CPU, reason="this torch cannot train under fully_shard on a CPU")
def test_fsdp_prints_and_draws_once(tmp_path: Path):
    done = torchrun(str(EXAMPLES / "fsdp.py"), ranks=2, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("largest stable lr ") == 1
    assert "FSDP" in done.stdout
    assert (tmp_path / "lr.png").read_bytes().startswith(PNG)


def test_the_command_line_finds_prints_and_writes_once(tmp_path: Path):
    target = f"{EXAMPLES / 'ddp.py'}:make"
    done = torchrun("-m", "lrfinder", "find", target, "--set", "hidden=32", "--budget", "80", "-o", "found.json", ranks=2, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("suggested lr ") == 1
    assert said(done.stderr) == "wrote found.json"
    assert lrfinder.load(tmp_path / "found.json").curve.batch_size == 64


@pytest.mark.parametrize("option", ["--budget=nonsense"])
def test_a_wrong_option_is_said_once(tmp_path: Path, option: str):
    done = torchrun("-m", "lrfinder", "find", f"{EXAMPLES / 'ddp.py'}:make", option, ranks=2, folder=tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("Error: budget='nonsense'") == 1
