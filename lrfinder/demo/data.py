"""The data of the demos: found on this machine or generated on it, never downloaded.

Each set is made once per process: no seed changes it, and MNIST-1D takes seconds.
"""

from __future__ import annotations

import sysconfig
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from hessian.errors import BadArgument

CONTEXT = 64  # characters the language model looks back on
TEXT_LENGTH = 500_000


class Split(NamedTuple):
    train: TensorDataset
    val: TensorDataset


@cache
def digits(demo: str) -> Split:
    """1,797 images, 1 x 8 x 8, of handwritten digits and their classes; a fifth is held out."""
    source = load_package("sklearn.datasets", demo, "scikit-learn").load_digits()
    images = torch.as_tensor(source.images, dtype=torch.float32)[:, None]
    classes = torch.as_tensor(source.target, dtype=torch.int64)
    # Neighbouring samples come from one writer, so a split without shuffling would hold out whole writers.
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return split(order, (images - images.mean()) / images.std(), classes, held_out=len(images) // 5)


@cache
def mnist1d(demo: str) -> Split:
    """5,000 signals, 1 x 40, in ten classes, with the split their makers use; a fifth is held out.

    Seeds the global generators of NumPy and Python: to be called inside ``preserve``.
    """
    package = load_package("mnist1d.data", demo, "mnist1d")
    made = package.make_dataset(package.get_dataset_args())
    return Split(signals(made["x"], made["y"]), signals(made["x_test"], made["y_test"]))


def signals(x: Any, y: Any) -> TensorDataset:
    """One-channel samples and their classes."""
    return TensorDataset(torch.as_tensor(x, dtype=torch.float32)[:, None], torch.as_tensor(y, dtype=torch.int64))


@cache
def characters(demo: str) -> Split:
    """Windows of ``CONTEXT + 1`` ASCII codes from Python's own modules; the last tenth of the text is held out."""
    text = library_text(demo)
    codes = torch.frombuffer(bytearray(text, "ascii"), dtype=torch.uint8).long()
    # Each window ends with the character the next one begins with, so that every character but the first is predicted once.
    windows = codes.unfold(0, CONTEXT + 1, CONTEXT).contiguous()
    return split(torch.arange(len(windows)), windows, held_out=len(windows) // 10)


def library_text(demo: str) -> str:
    """The first half million characters of the standard library's public modules, in the order of their names."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    text = ""
    # Private modules stay out: among them are build settings, which differ from machine to machine.
    for path in sorted(folder.glob("[a-z]*.py")):
        text += path.read_text("ascii", "ignore")
        if len(text) >= TEXT_LENGTH:
            return text[:TEXT_LENGTH]
    raise BadArgument(
        f"the demo {demo} reads the source of Python's standard library, but {folder} holds only {len(text)} characters of it; "
        "choose another demo."
    )


def split(order: Tensor, *columns: Tensor, held_out: int) -> Split:
    """The samples in ``order``, the last ``held_out`` of them for validation."""
    train, val = order[:-held_out], order[-held_out:]
    return Split(TensorDataset(*(column[train] for column in columns)), TensorDataset(*(column[val] for column in columns)))


def load_package(module: str, demo: str, package: str) -> Any:
    """An optional package, or the command that installs it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        raise BadArgument(f"the demo {demo} needs {package}: pip install 'lrfinder[demo]'") from missing


def batches(data: TensorDataset, batch_size: int, *, shuffle: bool, seed: int = 0) -> DataLoader[tuple[Tensor, ...]]:
    """Without a generator of its own, even a loader that does not shuffle draws from the global one."""
    return DataLoader(data, batch_size, shuffle, generator=torch.Generator().manual_seed(seed))
