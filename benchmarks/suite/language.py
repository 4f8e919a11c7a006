"""English for language models: what Python's own modules say in docstrings, comments and the manual, as numbers of word pieces.

Ten packages are kept apart. Their docstrings are what models are fine-tuned on; no pretraining sees a file of theirs.
"""

from __future__ import annotations

import ast
import random
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from suite.datasets import manual
from suite.samples import Split

FAMILIES = ("asyncio", "distutils", "email", "http", "importlib", "logging", "multiprocessing", "tkinter", "unittest", "xml")
SKIPPED = {"site-packages", "ensurepip", "encodings", "lib2to3", "pydoc_data"}  # not Python's own, or tables
PIECE = re.compile(r"[a-z]+|[0-9]|[^\sa-z0-9]")
WINDOW = 32  # word pieces of a labelled sample
HELD_OUT = 0.4  # share of the docstrings that is for validation
TRAIN, MORE_TRAIN, VAL = 90, 130, 40  # samples of a family, at most: the large ones would drown the others
PAIRS = 10  # of 16 in a window

Codes = list[int]


@dataclass(frozen=True)
class Words:
    """A vocabulary: the most frequent words, and every single character."""

    numbers: dict[str, int]

    def encode(self, text: str) -> Codes:
        return [number for word in PIECE.findall(text.lower()) for number in self.spelled(word)]

    def spelled(self, word: str) -> Iterator[int]:
        """The word, or the longest known beginnings that make it up."""
        while word:
            known = next((end for end in range(len(word), 0, -1) if word[:end] in self.numbers), 0)
            if known:
                yield self.numbers[word[:known]]
            word = word[known or 1 :]


def vocabulary(texts: Sequence[str], size: int) -> Words:
    """Of that size; characters that occur only once or twice are left out."""
    counts = Counter(piece for text in texts for piece in PIECE.findall(text.lower()))
    letters = Counter("".join(counts))
    characters = [letter for letter, count in letters.most_common() if count > 2][: size // 4]
    words = [word for word, _ in counts.most_common() if len(word) > 1][: size - len(characters)]
    return Words({piece: number for number, piece in enumerate([*characters, *words])})


@cache
def library(every: int = 1) -> tuple[list[str], dict[str, list[str]]]:
    """Texts to pretrain on, the manual first; and the docstrings of every family. Of ``every`` so many files one is read."""
    texts, docstrings = [manual()], {family: list[str]() for family in FAMILIES}
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py"))[::every]:
        parts = path.relative_to(root).parts
        if SKIPPED.isdisjoint(parts):
            found, comments = said_in(path)
            if parts[0] in docstrings:
                docstrings[parts[0]] += found
            elif not any(f"test_{family}" in part for part in parts for family in FAMILIES):
                texts += [*found, comments]
    return texts, docstrings


def said_in(path: Path) -> tuple[list[str], str]:
    """Docstrings and comments; nothing of a file that this Python cannot read, as some of its own tests are made to be."""
    try:
        source = path.read_text("utf-8")
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return [], ""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    found = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
    return [text for text in found if text], "\n".join(re.findall(r"(?m)^\s*#\s?(.*)$", source))


def stream(texts: Sequence[str], words: Words) -> Tensor:
    """All texts, one after the other, in an order that never changes."""
    order = list(texts)
    random.Random(0).shuffle(order)
    return torch.tensor([number for text in order for number in words.encode(text)])


def families(docstrings: dict[str, list[str]], words: Words) -> Split:
    """Pieces of docstrings, and which package each is from."""
    train, val = list[tuple[Codes, int]](), list[tuple[Codes, int]]()
    for label, family in enumerate(FAMILIES):
        known, unseen = divided(docstrings[family], words)
        train += [(piece, label) for piece in known[:TRAIN]]
        val += [(piece, label) for piece in unseen[:VAL]]
    return Split(columns(train), columns(val))


def swapped(docstrings: dict[str, list[str]], words: Words) -> Split:
    """Pieces of docstrings, half of them with ten pairs of neighbouring word pieces exchanged, and which these are."""
    dice = random.Random(0)
    train, val = list[tuple[Codes, int]](), list[tuple[Codes, int]]()
    for family in FAMILIES:
        for pieces, place, most in zip(divided(docstrings[family], words), (train, val), (MORE_TRAIN, VAL), strict=True):
            for number, piece in enumerate(pieces[:most]):
                place.append((exchanged(piece, dice) if number % 2 else piece, number % 2))
    return Split(columns(train), columns(val))


def exchanged(piece: Codes, dice: random.Random, pairs: int = PAIRS) -> Codes:
    """With so many pairs of unequal neighbours exchanged."""
    places = [place for place in range(0, len(piece) - 1, 2) if piece[place] != piece[place + 1]]
    mixed = list(piece)
    for place in dice.sample(places, min(pairs, len(places))):
        mixed[place], mixed[place + 1] = mixed[place + 1], mixed[place]
    return mixed


def divided(docstrings: Sequence[str], words: Words) -> tuple[list[Codes], list[Codes]]:
    """Windows to train on and windows to judge by, from different docstrings, each text once, in an order that never changes."""
    unique = sorted(set(docstrings))
    random.Random(0).shuffle(unique)
    cut = round(HELD_OUT * len(unique))
    val, train = windows(unique[:cut], words), windows(unique[cut:], words)
    seen = {tuple(piece) for piece in train}
    return train, [piece for piece in val if tuple(piece) not in seen]


def windows(texts: Sequence[str], words: Words) -> list[Codes]:
    """At most four of a text, mixed."""
    cut = []
    for text in texts:
        codes = words.encode(text)
        cut += [codes[start : start + WINDOW] for start in range(0, min(len(codes), 4 * WINDOW) - WINDOW + 1, WINDOW)]
    random.Random(1).shuffle(cut)
    return cut


def columns(pairs: Sequence[tuple[Codes, int]]) -> tuple[Tensor, Tensor]:
    return torch.tensor([piece for piece, _ in pairs]), torch.tensor([label for _, label in pairs])
