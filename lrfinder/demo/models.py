"""The nets of the demos. Their first weights come from the global generator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrfinder.demo.data import CONTEXT

ASCII = 128


def mlp() -> nn.Module:
    """64 pixels, two hidden layers of 128, ten classes."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def cnn() -> nn.Module:
    """Three 3x3 convolutions with BatchNorm on 8x8 images, averaged over what is left of the image."""
    return nn.Sequential(
        *conv_block(1, 16),
        *conv_block(16, 32),
        nn.MaxPool2d(2),
        *conv_block(32, 64),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def conv_block(inputs: int, outputs: int) -> list[nn.Module]:
    """A convolution without bias (BatchNorm would subtract it again), its BatchNorm and ReLU."""
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def signal_cnn() -> nn.Module:
    """Three convolutions along a signal of 40 values, each halving its length."""
    return nn.Sequential(
        nn.Conv1d(1, 32, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv1d(32, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv1d(32, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 5, 10),
    )


class CharTransformer(nn.Module):
    """Scores for the next character at every position, from that character and those before it; about 120,000 parameters."""

    def __init__(self, width: int = 64, heads: int = 4, depth: int = 2) -> None:
        super().__init__()
        self.characters = nn.Embedding(ASCII, width)
        self.positions = nn.Embedding(CONTEXT, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.scores = nn.Linear(width, ASCII)
        for embedding in (self.characters, self.positions):  # torch's unit scale would drown what the blocks add
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, codes: Tensor) -> Tensor:
        """(batch, length) codes -> (batch, length, 128) scores."""
        places = torch.arange(codes.shape[1], device=codes.device)
        hidden = self.blocks(self.characters(codes) + self.positions(places))
        scores: Tensor = self.scores(self.norm(hidden))
        return scores


class Block(nn.Module):
    """Attention, then a two-layer net, each added to what comes in and normalized before."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), CausalAttention(width, heads))
        self.net = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = hidden + self.attention(hidden)
        out: Tensor = hidden + self.net(hidden)
        return out


class CausalAttention(nn.Module):
    """Every position looks at itself and at those before it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        query, key, value = (self.by_head(part) for part in self.qkv(hidden).chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def by_head(self, part: Tensor) -> Tensor:
        """(batch, length, width) -> (batch, heads, length, width / heads)."""
        batch, length, width = part.shape
        return part.reshape(batch, length, self.heads, width // self.heads).transpose(1, 2)


def next_character_loss(model: nn.Module, batch: list[Tensor]) -> Tensor:
    """Mean cross-entropy, in nats per character, of predicting each character of the windows from those before it."""
    (windows,) = batch
    scores = model(windows[:, :-1])
    return F.cross_entropy(scores.flatten(0, 1), windows[:, 1:].flatten())
