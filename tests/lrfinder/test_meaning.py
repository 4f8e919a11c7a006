"""Optimizers whose learning rate means something else: it is said, and they are measured and put back like any other."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import prodigyopt
import pytest
import pytorch_optimizer
import schedulefree
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lrfinder
from hessian.describe import describe_optimizer
from lrfinder.describe import MEANINGS, meaning_of

MULTIPLIES = "multiplies the step size that the optimizer estimates by itself: 1 is the default"
CONSTANT = "stays constant after the warm-up"
UNUSUAL: dict[str, tuple[Callable[[Any], Any], str]] = {
    "Prodigy": (prodigyopt.Prodigy, MULTIPLIES),
    "another Prodigy": (pytorch_optimizer.Prodigy, MULTIPLIES),
    "D-Adaptation": (pytorch_optimizer.DAdaptAdam, MULTIPLIES),
    "Schedule-Free SGD": (lambda weights: schedulefree.SGDScheduleFree(weights, lr=1.0), CONSTANT),
    "Schedule-Free AdamW": (lambda weights: schedulefree.AdamWScheduleFree(weights, lr=0.01), CONSTANT),
    "another Schedule-Free": (pytorch_optimizer.ScheduleFreeAdamW, CONSTANT),
    "a Schedule-Free wrapper": (lambda weights: schedulefree.ScheduleFreeWrapper(torch.optim.SGD(weights, lr=0.1)), CONSTANT),
}


def problem() -> tuple[nn.Module, DataLoader[Any]]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(320, 8, generator=generator)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    return model, DataLoader(TensorDataset(inputs, inputs[:, :3].argmax(1)), batch_size=32, shuffle=True)


def with_optimizer(make: Callable[[Any], Any]) -> tuple[nn.Module, Any, DataLoader[Any]]:
    model, data = problem()
    optimizer = make(model.parameters())
    if hasattr(optimizer, "train"):
        optimizer.train()
    return model, optimizer, data


def state_of(model: nn.Module, optimizer: Any) -> dict[str, Any]:
    groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    return copy.deepcopy({"weights": [weight.tolist() for weight in model.parameters()], "groups": groups, "count": len(optimizer.state)})


@pytest.mark.parametrize(("make", "meaning"), UNUSUAL.values(), ids=UNUSUAL)
def test_the_print_says_what_the_lr_means_and_all_is_put_back(make: Callable[[Any], Any], meaning: str):
    model, optimizer, data = with_optimizer(make)
    before = state_of(model, optimizer)
    found = lrfinder.find_lr(model, optimizer, data, nn.CrossEntropyLoss(), total_steps=100, schedule="constant", budget="quick")
    lines = " ".join(str(found).split())
    assert f"this lr {meaning}" in lines
    assert max(map(len, str(found).splitlines())) <= 80
    assert state_of(model, optimizer) == before
    found.apply(optimizer)
    assert optimizer.param_groups[0]["lr"] == found.lr


def test_prodigy_is_swept_over_its_multiplier():
    model, optimizer, data = with_optimizer(prodigyopt.Prodigy)
    before = state_of(model, optimizer)
    curve = lrfinder.range_test(model, optimizer, data, nn.CrossEntropyLoss(), start_lr=1e-4, end_lr=100.0, progress=False)
    assert 1 < curve.break_lr < 100
    assert min(curve.losses) < 0.8 * curve.losses[0]
    assert state_of(model, optimizer) == before


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Adagrad])
def test_the_usual_optimizers_go_without_a_word(kind: Any):
    assert meaning_of(describe_optimizer(kind([nn.Parameter(torch.zeros(1))], lr=0.1))) is None


def test_several_optimizers_share_one_sentence_or_have_one_each():
    assert meaning_of("Prodigy and Prodigy(betas=(0.9, 0.99))") == MEANINGS["Prodigy"]
    assert meaning_of("SGDScheduleFree and Prodigy") == f"{MEANINGS['Prodigy']}; {MEANINGS['ScheduleFree']}"


def test_schedule_free_in_eval_mode_says_itself_what_to_do():
    model, optimizer, data = with_optimizer(lambda weights: schedulefree.AdamWScheduleFree(weights, lr=0.01))
    optimizer.eval()
    before = state_of(model, optimizer)
    with pytest.raises(Exception, match=r"Optimizer was not in train mode when step is called"):
        lrfinder.find_lr(model, optimizer, data, nn.CrossEntropyLoss(), budget="quick", progress=False)
    assert state_of(model, optimizer) == before
