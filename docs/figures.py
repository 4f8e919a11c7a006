"""The eight cases of ``reading.md``: real trainings, their pictures, their results as JSON, and what ``find_lr`` printed, on the page.

``python docs/figures.py`` makes them all in some ten seconds, ``python docs/figures.py saddle`` one. It needs scikit-learn for its data.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from sklearn.datasets import load_diabetes, load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lrfinder
from lrfinder.demo import make

HERE = Path(__file__).parent
COLOURS = 128  # enough for these pictures, at a third of the bytes


def clean() -> lrfinder.Suggestion:
    """A fully connected net on handwritten digits."""
    return lrfinder.find_lr(**{**make("digits-mlp"), "total_steps": 1000})


def noisy() -> lrfinder.Suggestion:
    """Four digits a batch, and a fifth of all labels wrong."""
    inputs, classes = digits()
    classes = torch.where(torch.rand(len(classes)) < 0.2, torch.randint(10, (len(classes),)), classes)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    loader = shuffled(inputs, classes, batch_size=4)
    return lrfinder.find_lr(model, optimizer, loader, nn.CrossEntropyLoss(), total_steps=1000, schedule="constant")


def no_divergence() -> lrfinder.Suggestion:
    """The clean case, swept to 0.03 only."""
    return lrfinder.find_lr(**{**make("digits-mlp"), "total_steps": 1000, "end_lr": 0.03})


def disagreement() -> lrfinder.Suggestion:
    """Poisson regression: the loss is exponential in what the net says, so its curvature grows as the net learns."""
    inputs, target = diabetes()
    model = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    loader = shuffled(inputs, target, batch_size=128)
    return lrfinder.find_lr(model, optimizer, loader, nn.PoissonNLLLoss(), total_steps=600, schedule="cosine")


def saddle() -> lrfinder.Suggestion:
    """A deep net of tanh whose weights begin at a third of their usual size: near a saddle, where every gradient is small."""
    model = nn.Sequential(*(layer for _ in range(3) for layer in (nn.LazyLinear(48), nn.Tanh())), nn.LazyLinear(10))
    inputs, classes = digits()
    model(inputs[:1])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(0.3 if name.endswith("weight") else 0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    return lrfinder.find_lr(model, optimizer, shuffled(inputs, classes), nn.CrossEntropyLoss(), total_steps=1000)


def scale_invariant() -> lrfinder.Suggestion:
    """Batch norm behind every layer, so that only the direction of the weights matters."""
    sizes = [(64, 128), (128, 128), (128, 10)]
    layers = [(nn.Linear(size, out, bias=False), nn.BatchNorm1d(out, affine=False), nn.ReLU()) for size, out in sizes]
    model = nn.Sequential(*[part for layer in layers for part in layer][:-1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    return lrfinder.find_lr(model, optimizer, shuffled(*digits()), nn.CrossEntropyLoss(), total_steps=1000)


def fine_tuning() -> lrfinder.Suggestion:
    """A net that knows the ten digits gets a new head, and learns odd from even on 100 samples in 150 steps."""
    inputs, classes = digits()
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
    train(model, torch.optim.AdamW(model.parameters(), lr=1e-3), shuffled(inputs[:1000], classes[:1000], batch_size=32), epochs=20)
    model[-1] = nn.Linear(128, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loader = shuffled(inputs[1000:1100], classes[1000:1100] % 2, batch_size=8)
    return lrfinder.find_lr(model, optimizer, loader, nn.CrossEntropyLoss(), total_steps=150, schedule="linear")


def too_short() -> lrfinder.Suggestion:
    """The clean case with the smallest budget there is."""
    return lrfinder.find_lr(**{**make("digits-mlp"), "total_steps": 1000, "budget": 60})


CASES: dict[str, Callable[[], lrfinder.Suggestion]] = {
    case.__name__: case for case in (clean, noisy, no_divergence, disagreement, saddle, scale_invariant, fine_tuning, too_short)
}


# Data, and a training ---------------------------------------------------------------------------------------------------------------


def digits() -> tuple[Tensor, Tensor]:
    """1,797 images of 64 pixels, and their classes."""
    images, classes = load_digits(return_X_y=True)
    return mixed(torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(classes))


def diabetes() -> tuple[Tensor, Tensor]:
    """Ten measurements of 442 patients, standardized, and how far the disease went: 25 to 346."""
    measured, progress = load_diabetes(return_X_y=True, scaled=False)
    inputs = torch.tensor(measured, dtype=torch.float32)
    return mixed((inputs - inputs.mean(0)) / inputs.std(0), torch.tensor(progress, dtype=torch.float32)[:, None])


def mixed(*columns: Tensor) -> tuple[Any, ...]:
    """The samples in an order of their own, always the same."""
    order = torch.randperm(len(columns[0]), generator=torch.Generator().manual_seed(0))
    return tuple(column[order] for column in columns)


def shuffled(*columns: Tensor, batch_size: int = 64) -> DataLoader[tuple[Tensor, ...]]:
    """Batches in an order that depends on no global generator."""
    return DataLoader(TensorDataset(*columns), batch_size, shuffle=True, generator=torch.Generator().manual_seed(0))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, loader: DataLoader[tuple[Tensor, ...]], *, epochs: int) -> None:
    """A plain training."""
    for inputs, classes in (batch for _ in range(epochs) for batch in loader):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), classes).backward()
        optimizer.step()


# Files ------------------------------------------------------------------------------------------------------------------------------


def found_in(name: str) -> lrfinder.Suggestion:
    """The result of a case, the same at every call."""
    torch.manual_seed(0)
    return CASES[name]()


def write_picture(found: lrfinder.Suggestion, path: Path) -> None:
    """A small PNG."""
    drawn = io.BytesIO()
    found.plot().savefig(drawn, format="png", dpi=140)
    Image.open(drawn).convert("RGB").quantize(COLOURS).save(path, optimize=True)


def on_page(text: str, name: str, printed: str) -> str:
    """The page with what was printed between the markers of this case."""
    start, end = f"<!-- {name}: written by docs/figures.py -->\n", f"<!-- end of {name} -->"
    before, _, rest = text.partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"the page has no place for {name}: {start.strip()} ... {end}")
    return f"{before}{start}```text\n{printed}\n```\n{end}{after}"


def main(names: list[str]) -> None:
    """Make these cases, or all."""
    folder, page = HERE / "reading", HERE / "reading.md"
    folder.mkdir(exist_ok=True)
    for name in names or CASES:
        found = found_in(name)
        found.save(folder / f"{name}.json")
        write_picture(found, folder / f"{name}.png")
        page.write_text(on_page(page.read_text(), name, re.sub(r" +$", "", str(found), flags=re.MULTILINE)))
        print(f"{name}: lr {found.lr:.2g}, {', '.join(doubt.name for doubt in found.doubts) or 'no doubts'}")


if __name__ == "__main__":
    main(sys.argv[1:])
