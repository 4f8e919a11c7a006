"""The losses of the suite: ``loss(model, batch)`` gives the mean over the batch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrfinder.demo.models import next_character_loss

__all__ = ["classes", "contrastive", "denoising", "gaussian", "next_character_loss", "reconstruction", "smoothed", "squares", "tokens"]

GROUP = 64  # images among which the contrastive loss looks for a partner; also while validating, since the loss grows with it


def classes(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy."""
    inputs, labels = batch
    return F.cross_entropy(model(inputs), labels)


def smoothed(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy against labels that are a tenth uncertain, so that it cannot reach 0."""
    inputs, labels = batch
    return F.cross_entropy(model(inputs), labels, label_smoothing=0.1)


def tokens(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy at every position of a sequence."""
    inputs, labels = batch
    return F.cross_entropy(model(inputs).flatten(0, 1), labels.flatten())


def squares(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean squared error."""
    inputs, target = batch
    return F.mse_loss(model(inputs), target)


def gaussian(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Negative log-likelihood of a normal distribution whose mean and log-variance the model gives; it falls below 0.

    Without the constant log(2 pi) / 2, which moves it across 0 sooner.
    """
    inputs, target = batch
    mean, logvar = model(inputs).chunk(2, 1)
    loss: Tensor = 0.5 * (logvar + (target - mean).square() * (-logvar).exp()).mean()
    return loss


def reconstruction(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Mean squared error of the inputs themselves, flat."""
    inputs = batch[0].flatten(1)
    return F.mse_loss(model(inputs), inputs)


def denoising(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """What a diffusion model minimizes: the noise, found in a mixture of input and noise in random proportion."""
    inputs = batch[0].flatten(1)
    level = torch.rand(len(inputs), 1) * math.pi / 2
    noise = torch.randn_like(inputs)
    mixed = level.cos() * inputs + level.sin() * noise
    return F.mse_loss(model(torch.cat([mixed, level.cos(), level.sin()], 1)), noise)


def contrastive(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Two spoiled copies of an image must find each other among those of the others."""
    groups = [group for group in torch.split(batch[0], GROUP) if len(group) == min(GROUP, len(batch[0]))]
    return torch.stack([pairing(model, group) for group in groups]).mean()


def pairing(model: nn.Module, images: Tensor) -> Tensor:
    first, second = (F.normalize(model(spoiled(images)), dim=1) for _ in range(2))
    return F.cross_entropy(first @ second.T / 0.2, torch.arange(len(images)))


def spoiled(images: Tensor) -> Tensor:
    """A third of the pixels gone, noise on the others."""
    return images * (torch.rand_like(images) > 0.33) + 0.2 * torch.randn_like(images)
