"""The nets of the reproductions, small enough for a laptop's CPU. Their first weights come from the global generator."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from common.data import CONTEXT
from lrfinder.demo.models import ASCII


class Residual(nn.Module):
    """Two convolutions along a signal with BatchNorm, added to what comes in; a stride halves the length."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv1d(inputs, outputs, 3, stride, 1, bias=False)
        self.second = nn.Conv1d(outputs, outputs, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(norm(outputs) for _ in range(2))
        self.skip = nn.Identity() if inputs == outputs else nn.Conv1d(inputs, outputs, 1, stride, bias=False)

    def forward(self, signal: Tensor) -> Tensor:
        hidden = F.relu(self.norms[0](self.first(signal)))
        return F.relu(self.skip(signal) + self.norms[1](self.second(hidden)))


def norm(channels: int) -> nn.BatchNorm1d:
    """BatchNorm without scale and shift, which would take a third of the time of these trainings."""
    return nn.BatchNorm1d(channels, affine=False)


def resnet(dropout: float = 0.0) -> nn.Module:
    """A stem and three residual blocks, averaged over the signal."""
    return nn.Sequential(
        nn.Conv1d(1, 8, 5, 2, 2, bias=False),
        norm(8),
        nn.ReLU(),
        Residual(8, 8),
        Residual(8, 16, 2),
        Residual(16, 16),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(16, 10),
    )


def conv(dropout: float = 0.0) -> nn.Module:
    """Three convolutions along a signal without normalization, each halving it."""
    layers: list[nn.Module] = []
    for before, after in ((1, 16), (16, 16), (16, 16)):
        layers += [nn.Conv1d(before, after, 5, 2, 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(16 * 5, 10))


def image_conv(dropout: float = 0.0) -> nn.Module:
    """Two 3x3 convolutions on 8x8 images without normalization, each halving them."""
    layers: list[nn.Module] = []
    for before, after in ((1, 8), (8, 16)):
        layers += [nn.Conv2d(before, after, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(16 * 4, 10))


def characters(dropout: float = 0.0) -> nn.Module:
    """Scores for the next character: the embeddings of those before it, and one hidden layer."""
    return nn.Sequential(
        nn.Embedding(ASCII, 16), nn.Flatten(), nn.Linear(16 * CONTEXT, 96), nn.ReLU(), nn.Dropout(dropout), nn.Linear(96, ASCII)
    )


NETS: dict[str, Callable[[float], nn.Module]] = {
    "resnet": resnet,
    "conv": conv,
    "image_conv": image_conv,
    "characters": characters,
}
