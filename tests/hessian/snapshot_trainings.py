"""Trainings that the tests of ``preserve`` spoil in every way."""

from __future__ import annotations

import random

import numpy as np
import torch
from oracles import bits, fingerprint
from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, NAdam, RMSprop
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from hessian import preserve
from hessian.snapshot import seed_everything

OPTIMIZERS = {
    "sgd": lambda parameters: SGD(parameters, lr=0.1),
    "sgd momentum": lambda parameters: SGD(parameters, lr=0.1, momentum=0.9),
    "adam": lambda parameters: Adam(parameters, lr=0.01),
    "adam tensor lr": lambda parameters: Adam(parameters, lr=torch.tensor(0.01)),
    "adamw amsgrad": lambda parameters: AdamW(parameters, lr=0.01, amsgrad=True),
    "rmsprop": lambda parameters: RMSprop(parameters, lr=0.01, momentum=0.9, centered=True),
    "adagrad": lambda parameters: Adagrad(parameters, lr=0.01),
    "nadam": lambda parameters: NAdam(parameters, lr=0.01),
}


class Everything(nn.Module):
    """Every kind of thing that a forward pass may change."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.layers = nn.Sequential(nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.3), nn.Linear(4, 2))
        self.register_buffer("mean", torch.zeros(4))  # assigned anew
        self.register_buffer("total", torch.zeros(4), persistent=False)  # changed in place
        self.calls = 0
        self.recent = torch.zeros(4)
        self.last = None
        self.hidden = (torch.zeros(4), torch.zeros(4))

    def forward(self, inputs):
        inner = self.first(inputs + float(np.random.normal()) * random.random())
        self.calls += 1
        self.mean = 0.9 * self.mean + 0.1 * inner.detach().mean(0)
        self.total.add_(inner.detach().sum(0))
        self.recent.mul_(0.5).add_(inner.detach()[0])
        self.last = inner.detach()
        self.hidden = (self.hidden[1] + 1, self.hidden[0] + 1)
        self.appears_later = True
        return self.layers(inner)


class Training:
    """A model, its optimizer and its loader, from fixed seeds."""

    def __init__(self, make=OPTIMIZERS["adam"], used=True):
        seed_everything(0)
        self.model = Everything()
        self.optimizer = make(self.model.parameters())
        data = TensorDataset(torch.randn(24, 3), torch.randint(2, (24,)))
        sampler = RandomSampler(data, generator=torch.Generator().manual_seed(1))
        self.loader = DataLoader(data, batch_size=4, sampler=sampler, generator=torch.Generator().manual_seed(2))
        if used:
            self.train(3)
            self.backward(next(iter(self.loader)))  # gradients that wait for a step
            self.model.first.bias.grad = None
            self.model.layers[0].eval()
            self.model.layers[3].bias.requires_grad_(False)

    def backward(self, batch):
        loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])
        loss.backward()
        return loss.item()

    def train(self, steps):
        losses = []
        while len(losses) < steps:
            for batch in self.loader:
                self.optimizer.zero_grad()
                losses.append(self.backward(batch))
                self.optimizer.step()
                if len(losses) == steps:
                    break
        return losses

    def disturb(self):
        """Whatever a measurement, or the user's code in it, could do."""
        self.train(2)
        self.model.layers[3].bias.requires_grad_(True)
        self.model.first.weight.requires_grad_(False)
        self.model.train()
        self.model.layers[2].eval()
        self.train(3)
        with torch.no_grad():
            self.model.first.weight.data = torch.zeros(4, 3)
            self.model.layers[3].weight.mul_(2)
        self.model.first.bias = nn.Parameter(torch.ones(4))
        self.model.layers[0].running_mean = torch.ones(4)
        self.model.extra = nn.Linear(1, 1)
        self.model.layers.append(nn.Identity())
        self.optimizer.param_groups[0]["lr"] = 7.0
        self.optimizer.param_groups[0]["initial_lr"] = 7.0
        del self.optimizer.param_groups[0]["weight_decay" if "weight_decay" in self.optimizer.param_groups[0] else "maximize"]
        self.optimizer.add_param_group({"params": list(self.model.extra.parameters()), "lr": 1.0})
        self.optimizer.param_groups[0]["params"].reverse()
        self.optimizer.notes = "added"

    def fingerprint(self):
        return fingerprint(self.model, self.optimizer, [self.loader])

    def preserved(self):
        return preserve(self.model, self.optimizer, self.loader)

    def values(self):
        """What further training depends on, without identities."""
        state = [self.optimizer.state[parameter] for parameter in self.model.parameters() if parameter in self.optimizer.state]
        return bits([dict(self.model.named_parameters()), dict(self.model.named_buffers()), state])


def disturb_with(training, part):
    """``part`` is called while the rest is being restored."""
    with training.preserved() as kept:
        kept._restores.insert(2, part)
        training.disturb()
