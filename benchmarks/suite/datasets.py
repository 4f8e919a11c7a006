"""The data of the suite: found on this machine or generated on it, never downloaded.

Every set is on one side for good. Constants of the rule are fitted on the sets of ``FIT``; the sets of ``UNSEEN`` are only ever scored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from hessian.snapshot import preserve
from lrfinder.demo import data as demo
from suite.samples import Batch, Split, split, standardized

FIT = ("wine", "iris", "moons", "friedman", "tabular", "mixture", "digits", "mnist1d", "source", "shout", "sorting", "swiss_roll", "parity")
UNSEEN = ("breast_cancer", "diabetes", "circles", "patches", "modular", "prose")
WINDOW = 33  # characters: 32 are read, 32 predicted
FEW = 160  # windows that a language model is fine-tuned on

# Tables that ship with scikit-learn.


@cache
def wine() -> Split:
    """178 wines, 13 measurements, 3 growers."""
    return classes("load_wine")


@cache
def iris() -> Split:
    """150 flowers, 4 measurements, 3 species."""
    return classes("load_iris")


@cache
def breast_cancer() -> Split:
    """569 tumours, 30 measurements, malignant or not."""
    return classes("load_breast_cancer")


@cache
def diabetes() -> Split:
    """442 patients, 10 measurements; how far the illness has got a year later."""
    inputs, target = package().load_diabetes(return_X_y=True)
    return split((standardized(inputs), standardized(target)[:, None]))


def classes(load: str) -> Split:
    inputs, target = getattr(package(), load)(return_X_y=True)
    return split((standardized(inputs), torch.as_tensor(target, dtype=torch.int64)))


def package() -> Any:
    return demo.load_package("sklearn.datasets", "accuracy benchmark", "scikit-learn")


# Sources that can be drawn from without end.


def moons(generator: Generator, total: int) -> Batch:
    """Two half circles, one hooked into the other, blurred."""
    labels = torch.randint(2, (total,), generator=generator)
    angle = math.pi * torch.rand(total, generator=generator)
    side = 1.0 - 2.0 * labels
    points = torch.stack([side * angle.cos() + labels, side * angle.sin() + 0.5 * labels], 1)
    return points + 0.2 * torch.randn(total, 2, generator=generator), labels


def circles(generator: Generator, total: int) -> Batch:
    """A circle within another, blurred until they touch."""
    labels = torch.randint(2, (total,), generator=generator)
    angle = 2 * math.pi * torch.rand(total, generator=generator)
    radius = 1.0 - 0.5 * labels
    points = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    return points + 0.12 * torch.randn(total, 2, generator=generator), labels


def friedman(generator: Generator, total: int) -> Batch:
    """Friedman's first regression: five of ten inputs matter, two of them through a product; noise of a fifth of the signal."""
    inputs = torch.rand(total, 10, generator=generator)
    a, b, c, d, e = inputs[:, :5].unbind(1)
    signal = 10 * (math.pi * a * b).sin() + 20 * (c - 0.5).square() + 10 * d + 5 * e
    target = (signal + torch.randn(total, generator=generator) - 14.4) / 5
    return (inputs - 0.5) * math.sqrt(12), target[:, None]


def tabular(generator: Generator, total: int) -> Batch:
    """Six correlated columns, half of them with a heavy tail, and outliers in the target: a table as it comes from a database."""
    mixing = torch.randn(6, 6, generator=torch.Generator().manual_seed(5)) / 2 + torch.eye(6)
    hidden = torch.randn(total, 6, generator=generator) @ mixing
    inputs = torch.cat([hidden[:, :3].mul(0.7).exp(), hidden[:, 3:]], 1)
    chi = torch.randn(total, 3, generator=generator).square().mean(1).sqrt()
    outliers = torch.randn(total, generator=generator) / chi
    target = inputs[:, 0].log1p() + (hidden[:, 3] * hidden[:, 4]).tanh() - 0.2 * hidden[:, 1] + 0.25 * outliers
    return inputs, target[:, None]


def mixture(generator: Generator, total: int) -> Batch:
    """Twenty overlapping Gaussian classes in 24 dimensions, some wide and some narrow."""
    fixed = torch.Generator().manual_seed(7)
    centres, widths = torch.randn(20, 24, generator=fixed), 0.6 + 0.9 * torch.rand(20, 1, generator=fixed)
    labels = torch.randint(20, (total,), generator=generator)
    return 0.75 * centres[labels] + widths[labels] * torch.randn(total, 24, generator=generator), labels


def mislabelled(generator: Generator, total: int) -> Batch:
    """The mixture with a fifth of its labels drawn at random."""
    inputs, labels = mixture(generator, total)
    wrong = torch.rand(total, generator=generator) < 0.2
    return inputs, torch.where(wrong, torch.randint(20, (total,), generator=generator), labels)


def swiss_roll(generator: Generator, total: int) -> Batch:
    """Points on a rolled-up sheet; where on the sheet they are."""
    place, height = torch.rand(total, generator=generator), torch.rand(total, generator=generator)
    angle = 1.5 * math.pi * (1 + 2 * place)
    points = torch.stack([angle * angle.cos() / 7, 3 * height - 1.5, angle * angle.sin() / 7], 1)
    return points + 0.05 * torch.randn(total, 3, generator=generator), torch.stack([place, height], 1).mul(3.4).sub(1.7)


def sorting(generator: Generator, total: int) -> Batch:
    """Eight digits, and the same digits in order."""
    digits = torch.randint(10, (total, 8), generator=generator)
    return digits, digits.sort(1).values


@cache
def modular() -> Split:
    """All sums of two numbers modulo 31, each number given by its first two harmonics on the circle."""
    numbers = torch.arange(31)
    pairs = torch.cartesian_prod(numbers, numbers)
    angle = 2 * math.pi / 31 * pairs[:, :, None] * torch.tensor([1, 2])
    return split((torch.cat([angle.cos(), angle.sin()], 2).flatten(1) * math.sqrt(2), pairs.sum(1) % 31))


def parity(generator: Generator, count: int) -> Batch:
    """Ten signs; the class is the parity of the first three, which no smaller number of them tells anything about."""
    signs = torch.randint(2, (count, 10), generator=generator) * 2.0 - 1
    return signs, (signs[:, :3].prod(1) > 0).long()


# Images and signals.


@cache
def digits() -> Split:
    """8x8 images of handwritten digits."""
    found = demo.digits("accuracy benchmark")
    return Split(found.train.tensors, found.val.tensors)


def digits_of(low: int, high: int) -> Split:
    """The digits from ``low`` to ``high``, as classes from 0."""
    return Split(*(tuple(within(columns, low, high)) for columns in digits()))


def within(columns: Any, low: int, high: int) -> Iterator[Tensor]:
    images, labels = columns
    chosen = (labels >= low) & (labels <= high)
    yield images[chosen]
    yield labels[chosen] - low


@cache
def mnist1d() -> Split:
    """Signals of 40 values in ten classes."""
    with preserve():
        found = demo.mnist1d("accuracy benchmark")
    return Split(found.train.tensors, found.val.tensors)


@cache
def patches() -> Split:
    """8x8 grey patches, none overlapping another, of two photographs, and which of the two each is from."""
    photographs = [torch.tensor(image, dtype=torch.float32).mean(2) for image in package().load_sample_images().images]
    cut = [F.unfold(photograph[None, None], 8, stride=8)[0].T for photograph in photographs]
    labels = torch.cat([torch.full((len(part),), index) for index, part in enumerate(cut)])
    pixels = torch.cat(cut)
    chosen = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))[:3000]
    scaled = (pixels - pixels.mean()) / pixels.std()
    return split((scaled[chosen].view(-1, 1, 8, 8), labels[chosen]))


# Text.


@cache
def source() -> Split:
    """Python's own modules; the last tenth is held out."""
    return held_out_tail(windows(demo.library_text("accuracy benchmark")), val=192)


@cache
def shout() -> Split:
    """A few windows of the tenth that ``source`` holds out, in capitals."""
    rows = windows(demo.library_text("accuracy benchmark").upper())
    return few(rows[-len(rows) // 10 :])


@cache
def prose() -> Split:
    """The English of Python's own manual."""
    return held_out_tail(windows(manual()), val=192)


@cache
def little_prose() -> Split:
    """A few windows of it."""
    return few(windows(manual()))


def manual() -> str:
    from pydoc_data.topics import topics

    text = "\n".join(topics[name] for name in sorted(topics))
    return text.encode("ascii", "ignore").decode("ascii")


def windows(text: str) -> Tensor:
    """Windows of ASCII codes; each begins with the character the one before it ends with."""
    codes = torch.frombuffer(bytearray(text, "ascii"), dtype=torch.uint8).long()
    return codes.unfold(0, WINDOW, WINDOW - 1).contiguous()


def held_out_tail(rows: Tensor, val: int) -> Split:
    """The last tenth of a text held out, and of it windows at even distances taken: neighbours resemble each other."""
    tail = rows[-len(rows) // 10 :]
    return Split((rows[: -len(tail)],), (tail[:: len(tail) // val][:val],))


def few(rows: Tensor) -> Split:
    """``FEW`` windows from all over the first half, and twice as many of the second half to judge by."""
    half = len(rows) // 2
    return Split((rows[: half : half // FEW][:FEW],), (rows[half :: half // (2 * FEW)][: 2 * FEW],))
