"""The examples do what they say: each runs from another folder, and its outcome is what a user would want from it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from commands import lrfinder, python

from lrfinder import load, suggest_lr

EXAMPLES = Path(__file__).parents[1] / "examples"
NO_CODECS = ("-W", "ignore:Failed to load image Python extension:UserWarning")  # torchvision's, which transformers imports if it is there
PNG = b"\x89PNG\r\n\x1a\n"


def accuracy(output: str) -> float:
    return float(re.findall(r"^val accuracy ([\d.]+)$", output, flags=re.MULTILINE)[-1])


def test_before_training_finds_a_learning_rate_that_trains_well(tmp_path: Path):
    done = python(str(EXAMPLES / "before_training.py"), folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("suggested lr ")
    assert accuracy(done.stdout) > 0.93  # chance is 0.1; the best LRs of this net reach 0.96 in ten epochs
    assert (tmp_path / "lr.png").read_bytes().startswith(PNG)


def test_train_trains_with_the_learning_rate_that_the_command_line_finds(tmp_path: Path):
    script = str(EXAMPLES / "train.py")
    done = lrfinder("find", f"{script}:make", "--set", "hidden=64", "--budget", "quick", "--quiet", "-o", "lr.png", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "wrote lr.png\n")
    assert (tmp_path / "lr.png").read_bytes().startswith(PNG)
    trained = python(script, done.stdout.strip(), folder=tmp_path)
    assert (trained.returncode, trained.stderr) == (0, "")
    assert accuracy(trained.stdout) > 0.93  # a hundredth of the best LR reaches 0.25


def test_recorded_curve_gives_learning_rates_of_several_plans(tmp_path: Path):
    done = python(str(EXAMPLES / "recorded_curve.py"), folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    curve = load(tmp_path / "curve.json")
    assert done.stdout.startswith(str(curve))
    lines = re.findall(r"^ *(\d+) steps, (\w+) *: lr ([\d.e-]+), good range ([\d.e-]+) to ([\d.e-]+)$", done.stdout, flags=re.MULTILINE)
    assert len(lines) == 4
    lrs = {}
    for steps, schedule, lr, low, high in lines:
        found = suggest_lr(curve, total_steps=int(steps), schedule=schedule)
        assert [lr, low, high] == [f"{value:.2g}" for value in (found.lr, *found.interval)]
        assert float(low) < float(lr) < float(high)
        lrs[steps, schedule] = found.lr
    assert lrs["200", "constant"] > lrs["2000", "constant"]  # the longer, the lower
    assert lrs["200", "onecycle"] > lrs["200", "constant"]  # a peak may be higher than what is kept up


def test_gan_sweeps_two_optimizers_around_its_own_step(tmp_path: Path):
    done = python(str(EXAMPLES / "gan.py"), folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("range test diverged at ")
    critic, generator = map(float, re.findall(r"lr ([\d.e-]+)", done.stdout.splitlines()[-1]))
    assert 1e-5 < critic < 1e-3  # 2e-4 is usual; seeds 0 to 4, with 100 and 200 steps, give 7e-5 to 2e-4, and it breaks at 0.04
    assert generator == pytest.approx(critic / 2, rel=0.1)


def test_lightning_module_is_fitted_at_the_learning_rate_found(tmp_path: Path):
    done = python(str(EXAMPLES / "lightning_module.py"), folder=tmp_path)
    assert done.returncode == 0, done.stderr  # where Lightning tells of its trainer
    assert done.stdout.startswith("suggested lr ")
    assert "valid for   Digits, AdamW(" in done.stdout
    assert "(1cycle peak, 115 steps)" in done.stdout
    assert accuracy(done.stdout) > 0.93


def test_huggingface_trains_with_what_was_found(tmp_path: Path):
    done = python(*NO_CODECS, str(EXAMPLES / "huggingface.py"), folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("suggested lr ")
    assert accuracy(done.stdout) > 0.55  # chance is 0.33; it reaches 0.71


def test_accelerate_loop_trains_with_what_was_found(tmp_path: Path):
    done = python(str(EXAMPLES / "accelerate_loop.py"), folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("suggested lr ")
    assert accuracy(done.stdout) > 0.9  # chance is 0.1; it reaches 0.95


def test_mid_training_goes_on_better_and_disturbs_nothing(tmp_path: Path):
    done = python(str(EXAMPLES / "mid_training.py"), folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    before, after = map(float, re.findall(r"^val accuracy ([\d.]+)$", done.stdout, flags=re.MULTILINE))
    assert before < 0.7  # five epochs at 1e-4
    assert after > 0.93
    assert "cosine peak, 115 steps" in done.stdout
    assert "\nnothing was disturbed\n" in done.stdout


TESTED = [
    "accelerate_loop.py",
    "before_training.py",
    "gan.py",
    "huggingface.py",
    "lightning_module.py",
    "mid_training.py",
    "recorded_curve.py",
    "train.py",
]


def test_every_example_is_tested_here():
    with_several_processes = ["ddp.py", "fsdp.py"]  # tests/distributed/test_commands.py
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == sorted([*TESTED, *with_several_processes])


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_fit_one_screen_and_begin_by_saying_what_they_do(example: Path):
    assert len(example.read_text().splitlines()) < 40
    assert example.read_text().startswith('"""')
