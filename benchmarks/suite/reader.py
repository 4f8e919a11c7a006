"""A language model, and the classifier that is made of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lrfinder.demo.models import Block


class Reader(nn.Module):
    """A causal transformer over word pieces; the embedding of a piece is also what scores it as the next one."""

    def __init__(self, pieces: int, width: int, heads: int, depth: int, context: int) -> None:
        super().__init__()
        self.pieces = nn.Embedding(pieces, width)
        self.places = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        for embedding in (self.pieces, self.places):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, codes: Tensor) -> Tensor:
        """(batch, length) codes -> (batch, length, width) features."""
        hidden = self.pieces(codes) + self.places(torch.arange(codes.shape[1]))
        features: Tensor = self.norm(self.blocks(hidden))
        return features


class Classifier(nn.Module):
    """The mean feature of a sample, and a fresh linear head on it."""

    def __init__(self, reader: Reader, classes: int) -> None:
        super().__init__()
        self.reader = reader
        self.head = nn.Linear(reader.norm.normalized_shape[0], classes)

    def forward(self, codes: Tensor) -> Tensor:
        scores: Tensor = self.head(self.reader(codes).mean(1))
        return scores


class LowRank(nn.Module):
    """A linear layer that stays as it is, and a product of two thin matrices that is added to it and trains (Hu et al. 2021)."""

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__()
        self.layer = layer
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.layer(hidden) + self.up(self.down(hidden))
        return out


def next_piece_loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Cross-entropy of each next word piece, in nats."""
    assert isinstance(model, Reader)
    (codes,) = batch
    scores = model(codes[:, :-1]) @ model.pieces.weight.T
    return F.cross_entropy(scores.flatten(0, 1), codes[:, 1:].flatten())
