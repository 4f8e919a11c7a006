"""The nets of the suite, small enough for thousands of trainings on one core. Their first weights come from the global generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrfinder.demo.models import ASCII, CharTransformer

Layer = Callable[[], nn.Module]


def mlp(
    widths: Sequence[int], activation: Layer = nn.ReLU, norm: Callable[[int], nn.Module] | None = None, dropout: float = 0.0
) -> nn.Sequential:
    """Fully connected, from the first of ``widths`` to the last; images are made flat."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(widths[:-1]):
        layers += [nn.Linear(inputs, outputs), *([norm(outputs)] if norm else []), activation()]
        layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


def conv(norm: Callable[[int], nn.Module], outputs: int = 10) -> nn.Sequential:
    """Two 3x3 convolutions on 8x8 images, each followed by a normalization and pooling."""
    layers: list[nn.Module] = []
    for before, after in ((1, 8), (8, 16)):
        layers += [nn.Conv2d(before, after, 3, padding=1), norm(after), nn.SiLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, outputs))


def signal_conv() -> nn.Sequential:
    """Three convolutions along a signal of 40 values, each halving it."""
    layers: list[nn.Module] = []
    for before, after in ((1, 16), (16, 24), (24, 24)):
        layers += [nn.Conv1d(before, after, 5, stride=2, padding=2), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(24 * 5, 10))


class Mixer(nn.Module):
    """8x8 images as 16 patches; layers that mix patches alternate with layers that mix features."""

    def __init__(self, width: int = 24, depth: int = 2) -> None:
        super().__init__()
        self.embed = nn.Linear(4, width)
        self.patches = nn.ModuleList(residual_net(16, 24) for _ in range(depth))
        self.features = nn.ModuleList(residual_net(width, 2 * width) for _ in range(depth))
        self.scores = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.embed(F.unfold(images, 2, stride=2).transpose(1, 2))
        for patches, features in zip(self.patches, self.features, strict=True):
            hidden = hidden + patches(hidden.transpose(1, 2)).transpose(1, 2)
            hidden = hidden + features(hidden)
        scores: Tensor = self.scores(hidden.mean(1))
        return scores


def residual_net(width: int, inner: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))


class Sorter(nn.Module):
    """One layer of attention over eight digits, and scores for each place."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.digits, self.places = nn.Embedding(10, width), nn.Embedding(8, width)
        self.layer = nn.TransformerEncoderLayer(width, 2, 48, dropout=0.0, batch_first=True, norm_first=True)
        self.scores = nn.Linear(width, 10)

    def forward(self, digits: Tensor) -> Tensor:
        hidden = self.digits(digits) + self.places(torch.arange(digits.shape[1]))
        scores: Tensor = self.scores(self.layer(hidden))
        return scores


class Recurrent(nn.Module):
    """Scores for the next character from a gated recurrent layer."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.characters = nn.Embedding(ASCII, width)
        self.layer = nn.GRU(width, width, batch_first=True)
        self.scores = nn.Linear(width, ASCII)

    def forward(self, codes: Tensor) -> Tensor:
        scores: Tensor = self.scores(self.layer(self.characters(codes))[0])
        return scores


def transformer() -> CharTransformer:
    """Scores for the next character from one transformer block; the demo's net, narrower."""
    return CharTransformer(width=32, heads=2, depth=1)


group_norm = partial(nn.GroupNorm, 4)
"""Group norm in four groups: takes the number of channels."""
