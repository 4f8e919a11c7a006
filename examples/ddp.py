"""Data-parallel training, the LR found first: `torchrun --nproc-per-node 2 ddp.py`, or `torchrun ... -m lrfinder find ddp.py:make`."""

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import lrfinder


def make(hidden=128, batch_size=32, epochs=10):
    """What find_lr needs to know, on every rank: the wrapped model, and this rank's part of the data."""
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    images, classes = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(classes))
    loader = DataLoader(data, batch_size=batch_size, sampler=DistributedSampler(data))
    model = DistributedDataParallel(nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    return {"model": model, "optimizer": optimizer, "data": loader, "criterion": nn.CrossEntropyLoss(), "total_steps": epochs * len(loader)}


if __name__ == "__main__":
    training = make()
    found = lrfinder.find_lr(**training, schedule="constant", budget="quick")  # the same on every rank
    training["optimizer"].param_groups[0]["lr"] = found.lr
    for epoch in range(training["total_steps"] // len(training["data"])):
        training["data"].sampler.set_epoch(epoch)
        for inputs, target in training["data"]:
            training["optimizer"].zero_grad()
            loss = training["criterion"](training["model"](inputs), target)
            loss.backward()
            training["optimizer"].step()
    if dist.get_rank() == 0:
        print(f"{found}\nlast loss {loss.item():.3f}")
    dist.destroy_process_group()
