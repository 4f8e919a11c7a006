"""The demos are real trainings, the same every time, and leave no trace on the caller."""

from __future__ import annotations

import random
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hessian.errors import BadArgument, BadType
from hessian.problem import Problem
from lrfinder.demo import DEMOS, OPTIMIZERS, make
from lrfinder.demo import data as demo_data
from lrfinder.demo.recipes import MAKE_OPTIMIZER, RECIPES

LR = {"sgd": 0.1, "adam": 3e-3, "adamw": 3e-3, "rmsprop": 3e-3}  # ordinary choices for nets of this size
USUAL = {"digits-mlp": torch.optim.SGD, "digits-cnn": torch.optim.SGD, "mnist1d": torch.optim.Adam, "chars": torch.optim.AdamW}
EVERY_DEMO = pytest.mark.parametrize("name", DEMOS)
CLASSES = pytest.mark.parametrize("name", ["digits-mlp", "digits-cnn", "mnist1d"])


def problem_of(training: dict[str, Any]) -> Problem:
    """The four arguments, as ``find_lr`` checks them."""
    loss = {key: training[key] for key in ("criterion", "loss_fn") if key in training}
    return Problem(training["model"], training["optimizer"], training["data"], **loss)


def validation_loss(training: dict[str, Any]) -> float:
    problem = problem_of(training)
    with torch.no_grad():
        return float(np.mean([problem.loss(batch).item() for batch in training["val_data"]]))


def train(training: dict[str, Any], steps: int, lr: float) -> None:
    """Plain training by torch alone."""
    problem, optimizer = problem_of(training), training["optimizer"]
    for group in optimizer.param_groups:
        group["lr"] = lr
    for batch in islice(chain.from_iterable(repeat(training["data"])), steps):
        optimizer.zero_grad()
        problem.loss(batch).backward()
        optimizer.step()


def samples(loader: Any) -> list[Tensor]:
    return list(loader.dataset.tensors)


def weights(training: dict[str, Any]) -> list[Tensor]:
    return list(training["model"].state_dict().values())


def batches(training: dict[str, Any], count: int = 3) -> list[Tensor]:
    return [tensor for batch in islice(training["data"], count) for tensor in batch]


def are_equal(left: list[Tensor], right: list[Tensor]) -> bool:
    return len(left) == len(right) and all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def global_random_state() -> tuple[Any, ...]:
    kind, keys, *rest = np.random.get_state()
    return random.getstate(), kind, keys.tolist(), rest, torch.get_rng_state().tolist()


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Nets this small gain nothing from a second thread, and lose much where another process holds the core it waits for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def fresh_data() -> Iterator[None]:
    """Data are made anew inside the test, and what the test made is forgotten after it."""
    for load in (demo_data.digits, demo_data.mnist1d, demo_data.characters):
        load.cache_clear()
    yield
    for load in (demo_data.digits, demo_data.mnist1d, demo_data.characters):
        load.cache_clear()


def test_every_name_that_help_shows_can_be_made():
    assert tuple(RECIPES) == tuple(DEMOS)
    assert tuple(MAKE_OPTIMIZER) == OPTIMIZERS == tuple(LR)
    assert all(text and "\n" not in text for text in DEMOS.values())


@EVERY_DEMO
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_validation_loss_falls_clearly_within_40_steps(name: str, optimizer: str):
    training = make(name, optimizer)
    before = validation_loss(training)
    train(training, steps=40, lr=LR[optimizer])
    assert validation_loss(training) < 0.8 * before  # the slowest pair, MNIST-1D with SGD, falls to 0.74


@CLASSES
def test_nets_that_classify_start_at_chance_and_end_far_above_it(name: str):
    training = make(name)
    assert validation_loss(training) == pytest.approx(np.log(10), abs=0.1)  # ten classes, none preferred yet
    train(training, steps=training["total_steps"], lr=LR["adam"] if name == "mnist1d" else LR["sgd"])
    training["model"].eval()
    inputs, classes = samples(training["val_data"])
    with torch.no_grad():
        accuracy = (training["model"](inputs).argmax(1) == classes).double().mean().item()
    assert accuracy > (0.6 if name == "mnist1d" else 0.95)  # chance is 0.1


@EVERY_DEMO
def test_find_lr_can_use_it_as_it_is(name: str):
    training = make(name)
    assert isinstance(training["optimizer"], USUAL[name])
    assert training["total_steps"] % len(training["data"]) == 0
    assert training["schedule"] == "onecycle"
    problem = problem_of(training)
    with problem.preserved():
        problem.check_first_loss()
    assert set(problem.parameters) == {name for name, _ in training["model"].named_parameters()}


@EVERY_DEMO
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_optimizer_that_was_asked_for_is_the_one_made(name: str, optimizer: str):
    made = make(name, optimizer)["optimizer"]
    assert type(made).__name__.lower() == optimizer
    assert optimizer != "sgd" or made.defaults["momentum"] == 0.9


@pytest.mark.parametrize("name", ["digits-mlp", "digits-cnn"])
def test_digits_are_the_images_of_scikit_learn_each_once(name: str):
    from sklearn.datasets import load_digits

    training = make(name)
    (train_x, train_y), (val_x, val_y) = samples(training["data"]), samples(training["val_data"])
    assert train_x.shape == (1438, 1, 8, 8)
    assert val_x.shape == (359, 1, 8, 8)
    made = sorted(zip(sixteenths(torch.cat([train_x, val_x])), torch.cat([train_y, val_y]).tolist(), strict=True))
    source = load_digits()
    assert made == sorted(zip(source.data.astype(int).tolist(), source.target.tolist(), strict=True))
    assert val_y.bincount().min() >= 25  # of about 36: every class is held out


def sixteenths(images: Tensor) -> list[list[int]]:
    """The scanner's 17 grey levels, from images that were shifted and scaled as a whole."""
    flat = images.flatten(1)
    return ((flat - flat.min()) / (flat.max() - flat.min()) * 16).round().int().tolist()


def test_mnist1d_is_the_generators_own_set():
    training = make("mnist1d")
    (train_x, train_y), (val_x, val_y) = samples(training["data"]), samples(training["val_data"])
    assert train_x.shape == (4000, 1, 40)
    assert val_x.shape == (1000, 1, 40)
    assert torch.cat([train_y, val_y]).bincount().tolist() == [500] * 10
    values = torch.cat([train_x, val_x]).double()
    assert values.mean().item() == pytest.approx(0.0, abs=1e-6)  # its makers normalize the whole set; float32 keeps 7 digits
    assert values.std().item() == pytest.approx(1.0, abs=1e-4)


def test_chars_are_consecutive_windows_of_pythons_own_source():
    training = make("chars")
    (train_windows,), (val_windows,) = samples(training["data"]), samples(training["val_data"])
    windows = torch.cat([train_windows, val_windows])
    assert windows.shape == (499_999 // 64, 65)  # one character is left over for the first context
    assert torch.equal(windows[1:, 0], windows[:-1, -1])
    text = bytes(windows[:, 1:].flatten().tolist()).decode("ascii")
    assert Path(sysconfig.get_paths()["stdlib"], "argparse.py").read_text("ascii", "ignore")[100:] in text
    assert len(val_windows) == len(windows) // 10


def test_the_transformer_does_not_see_what_it_predicts():
    model = make("chars")["model"]
    assert 90_000 < sum(parameter.numel() for parameter in model.parameters()) < 130_000
    codes = torch.randint(128, (2, 64), generator=torch.Generator().manual_seed(0))
    changed = codes.clone()
    changed[:, 40:] = (changed[:, 40:] + 1) % 128
    moved = (model(codes) - model(changed)).abs().amax((0, 2))
    assert moved[:40].max() < 1e-5  # float32 sums of order one
    assert moved[40:].min() > 1e-3


@EVERY_DEMO
def test_validation_samples_are_not_trained_on(name: str):
    training = make(name)
    trained, held_out = ({bytes(row.numpy().data) for row in samples(training[key])[0]} for key in ("data", "val_data"))
    repeated = len(trained & held_out)
    assert repeated <= (5 if name == "chars" else 0)  # lines of dashes occur again in half a million characters; how many, Python decides


@EVERY_DEMO
def test_the_seed_decides_weights_and_batches(name: str):
    first, again, other = make(name, seed=3), make(name, seed=3), make(name, seed=4)
    assert are_equal(weights(first), weights(again))
    assert not are_equal(weights(first), weights(other))
    assert are_equal(samples(first["val_data"]), samples(other["val_data"]))
    seen = batches(first)
    assert are_equal(seen, batches(again))
    assert not are_equal(seen, batches(other))
    assert not are_equal(seen, batches(first))  # the next epoch has its own order


@EVERY_DEMO
def test_trainings_share_no_weights(name: str):
    first, second = make(name), make(name)
    train(first, steps=1, lr=1e-3)
    assert not are_equal(weights(first), weights(second))
    assert are_equal(weights(second), weights(make(name)))


@EVERY_DEMO
@pytest.mark.usefixtures("fresh_data")
def test_global_generators_are_left_alone(name: str):
    torch.manual_seed(11)
    np.random.seed(11)
    random.seed(11)
    before = global_random_state()
    training = make(name, seed=5)
    assert global_random_state() == before
    reference = weights(training)
    batches(training)
    list(training["val_data"])
    assert global_random_state() == before
    torch.manual_seed(12)
    assert are_equal(weights(make(name, seed=5)), reference)  # nor do they decide anything


def test_the_seed_of_a_gpu_that_has_not_started_is_left_alone():
    torch.manual_seed(11)  # waits in a queue until a GPU starts; nothing can read it back by then
    before = torch.cuda._lazy_seed_tracker.get_calls()
    make("digits-mlp", seed=5)
    assert torch.cuda._lazy_seed_tracker.get_calls() == before


def test_the_names_load_nothing_heavy():
    heavy = {"torch", "numpy", "scipy", "sklearn", "mnist1d", "matplotlib"}
    code = f"import sys, lrfinder.demo as d; d.DEMOS, d.OPTIMIZERS; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("digits-mlp", "sklearn.datasets", "scikit-learn"),
        ("digits-cnn", "sklearn.datasets", "scikit-learn"),
        ("mnist1d", "mnist1d.data", "mnist1d"),
    ],
)
@pytest.mark.usefixtures("fresh_data")
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    name: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, module.split(".")[0], None)
    before = global_random_state()
    with pytest.raises(BadArgument) as caught:
        make(name)
    assert str(caught.value) == f"the demo {name} needs {package}: pip install 'lrfinder[demo]'"
    assert global_random_state() == before


@pytest.mark.usefixtures("fresh_data")
def test_chars_needs_no_extra_package(monkeypatch: pytest.MonkeyPatch):
    for module in ("sklearn", "sklearn.datasets", "mnist1d", "mnist1d.data"):
        monkeypatch.setitem(sys.modules, module, None)
    assert isinstance(make("chars")["model"], nn.Module)


@pytest.mark.usefixtures("fresh_data")
def test_a_python_without_its_source_is_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "ast.py").write_text("pass\n")
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(BadArgument, match="holds only 5 characters of it; choose another demo"):
        make("chars")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: make("mnist"), BadArgument, ["name='mnist'", *DEMOS]),
        (lambda: make(["chars"]), BadArgument, ["name=['chars']", *DEMOS]),  # type: ignore[arg-type]
        (lambda: make("chars", "SGD"), BadArgument, ["optimizer='SGD'", *OPTIMIZERS]),
        (lambda: make("chars", optimizer=""), BadArgument, ["optimizer=''", *OPTIMIZERS]),
        (lambda: make(seed=-1), BadArgument, ["seed=-1"]),
        (lambda: make(seed=0.5), BadType, ["seed=0.5"]),  # type: ignore[arg-type]
    ],
)
def test_unknown_names_and_seeds_are_refused_in_one_sentence(call: Callable[[], Any], error: type[Exception], words: list[str]):
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert all(word in message for word in words)
    assert message.endswith(".")
    assert message.count(". ") == 0
