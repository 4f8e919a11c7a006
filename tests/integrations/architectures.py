"""Real architectures with a few thousand random weights, and real data that every Python has, or scikit-learn."""

from __future__ import annotations

import argparse
import csv
import decimal
import difflib
import heapq
import pickletools
import warnings
from functools import cache
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    ResNetConfig,
    ResNetForImageClassification,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

MODULES = (argparse, csv, decimal, difflib, heapq, pickletools)
VOCABULARY = 128  # ASCII; 0 pads
LENGTH = 24


@cache
def sentences() -> list[tuple[list[int], int]]:
    """Lines of docstrings as character codes, of several lengths, each with the number of its module."""
    found = []
    for number, module in enumerate(MODULES):
        lines = [line.strip()[:LENGTH].encode("ascii", "replace") for line in (module.__doc__ or "").splitlines()]
        found += [(list(line), number) for line in lines if len(line) > 4][:32]
    return found


def padded(rows: list[list[int]], filler: int = 0) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [filler] * (longest - len(row)) for row in rows])


def pad_classes(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Texts with a class each; batches are as wide as their longest text."""
    ids = padded([sample["input_ids"] for sample in samples])
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": torch.tensor([sample["label"] for sample in samples])}


def pad_next(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Texts whose next character is to be told; none behind the end."""
    ids = padded([sample["input_ids"] for sample in samples])
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": padded([sample["input_ids"] for sample in samples], -100)}


def pad_reversed(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Texts that are to be written backwards."""
    ids = padded([sample["input_ids"] for sample in samples])
    labels = padded([sample["input_ids"][::-1] for sample in samples], -100)
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": labels}


def stack_images(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Images with a class each."""
    pixels = torch.stack([sample["pixels"] for sample in samples])
    return {"pixel_values": pixels, "labels": torch.tensor([sample["label"] for sample in samples])}


def texts(count: int) -> list[dict[str, Any]]:
    return [{"input_ids": ids, "label": label} for ids, label in sentences()][:: max(1, len(sentences()) // count)][:count]


def images(count: int) -> list[dict[str, Any]]:
    pixels, labels = load_digits(return_X_y=True)
    scaled = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    return [{"pixels": scaled[i], "label": int(labels[i])} for i in range(count)]


def bert(dropout: float = 0.1) -> nn.Module:
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "num_labels": len(MODULES)}
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return BertForSequenceClassification(BertConfig(vocab_size=VOCABULARY, max_position_embeddings=LENGTH, **shape, **rates))


def gpt2(dropout: float = 0.1) -> nn.Module:
    shape = {"n_positions": LENGTH, "n_embd": 16, "n_layer": 1, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout, **shape))


def t5(dropout: float = 0.1) -> nn.Module:
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0, "pad_token_id": 0}
    return T5ForConditionalGeneration(T5Config(vocab_size=VOCABULARY, dropout_rate=dropout, **shape))


def vit(dropout: float = 0.1) -> nn.Module:
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "num_labels": 10}
    return ViTForImageClassification(ViTConfig(image_size=8, patch_size=2, num_channels=1, hidden_dropout_prob=dropout, **shape))


def resnet(dropout: float = 0.0) -> nn.Module:
    shape = {"num_channels": 1, "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "num_labels": 10}
    return ResNetForImageClassification(ResNetConfig(layer_type="basic", **shape))


HUGGING_FACE = {
    "bert": (bert, texts, pad_classes),
    "gpt2": (gpt2, texts, pad_next),
    "t5": (t5, texts, pad_reversed),
    "vit": (vit, images, stack_images),
    "resnet": (resnet, images, stack_images),
}


def timm_model(name: str) -> nn.Module:
    """One of timm's, for digits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its torchvision
        import timm
    sizes = {
        "resnet10t": {"channels": (8, 8, 16, 16), "stem_width": 8},
        "vit_tiny_patch16_224": {"img_size": 8, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2},
    }
    return timm.create_model(name, num_classes=10, in_chans=1, **sizes[name])
