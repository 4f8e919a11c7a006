"""Every measurement on real architectures as transformers and timm build them, and everything put back."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from architectures import HUGGING_FACE, images, stack_images, timm_model
from torch import Tensor, nn
from torch.utils.data import DataLoader

import hessian
import lrfinder


def hugging_face(name: str) -> dict[str, Any]:
    """The model gives its loss."""
    make, samples, collate = HUGGING_FACE[name]
    return {"model": make(), "data": DataLoader(samples(640), batch_size=32, shuffle=True, collate_fn=collate)}


def pairs(samples: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
    batch = stack_images(samples)
    return batch["pixel_values"], batch["labels"]


def timm(name: str) -> dict[str, Any]:
    """The model gives logits."""
    data = DataLoader(images(640), batch_size=64, shuffle=True, collate_fn=pairs)
    return {"model": timm_model(name), "data": data, "criterion": nn.CrossEntropyLoss()}


MODELS: dict[str, Callable[[], dict[str, Any]]] = {
    **{name: partial(hugging_face, name) for name in HUGGING_FACE},
    **{name: partial(timm, name) for name in ("resnet10t", "vit_tiny_patch16_224")},
}
MEASUREMENTS: dict[str, Callable[..., Any]] = {
    "range_test": partial(lrfinder.range_test, num_iter=60, start_lr=1e-4),
    "find_lr": partial(lrfinder.find_lr, budget=100, total_steps=60),
    "stable_lr": partial(hessian.stable_lr, num_batches=2, tol=0.1),
}


@pytest.mark.parametrize("name", MODELS)
def test_learning_rates_are_measured_and_everything_is_put_back(name: str):
    torch.manual_seed(0)
    training = MODELS[name]()
    model = training["model"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    found = {kind: measure(optimizer=optimizer, **training) for kind, measure in MEASUREMENTS.items()}
    torch.testing.assert_close(dict(model.state_dict()), dict(before), rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random)
    assert not optimizer.state
    curve, suggestion = found["range_test"], found["find_lr"]
    assert curve.smooth[: curve.clean].min() < 0.97 * curve.initial  # random weights differ between versions
    assert curve.smooth[curve.clean - 1] > 1.1 * curve.smooth[: curve.clean].min()
    assert 1e-4 < suggestion.lr < 0.5  # AdamW on untrained networks of this size: 1e-3 to 1e-1
    assert suggestion.confirmation.passed
    assert found["find_lr"].no_limit is None
    assert found["stable_lr"].sharpness > 0
