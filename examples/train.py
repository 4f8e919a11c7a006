"""A training script with a factory. Find its LR with `lrfinder find train.py:make -o lr.png`; train with `python train.py 0.01`."""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


def make(hidden=128, batch_size=64, epochs=10):
    """What lrfinder needs to know; `--set hidden=64` on the command line arrives here."""
    torch.manual_seed(0)
    images, classes = load_digits(return_X_y=True)
    train, val = random_split(TensorDataset(torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(classes)), [0.8, 0.2])
    data = DataLoader(train, batch_size=batch_size, shuffle=True)
    model = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))
    return {
        "model": model,
        "optimizer": torch.optim.AdamW(model.parameters(), lr=1e-3),
        "data": data,
        "val_data": DataLoader(val, batch_size=len(val)),
        "criterion": nn.CrossEntropyLoss(),
        "total_steps": epochs * len(data),
        "schedule": "constant",
    }


if __name__ == "__main__":
    it = make()
    it["optimizer"].param_groups[0]["lr"] = float(sys.argv[1] if len(sys.argv) > 1 else 1e-3)
    for _ in range(it["total_steps"] // len(it["data"])):
        for inputs, target in it["data"]:
            it["optimizer"].zero_grad()
            it["criterion"](it["model"](inputs), target).backward()
            it["optimizer"].step()
    (right,) = [(it["model"](inputs).argmax(1) == target).float().mean().item() for inputs, target in it["val_data"]]
    print(f"val accuracy {right:.3f}")
