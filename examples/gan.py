"""Find the learning rate of a GAN, two networks with an optimizer each, by a sweep around its own training step."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import softplus
from torch.utils.data import DataLoader

import lrfinder

torch.manual_seed(0)
images = torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1
loader = DataLoader(images, batch_size=64, shuffle=True, drop_last=True)
generator = nn.Sequential(nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, 64), nn.Tanh())
critic = nn.Sequential(nn.Linear(64, 128), nn.LeakyReLU(0.2), nn.Linear(128, 1))
opt_g = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
opt_d = torch.optim.Adam(critic.parameters(), lr=2e-3, betas=(0.5, 0.999))  # the ratio stays


def training_step(real):
    fake = generator(torch.randn(len(real), 32))
    opt_d.zero_grad()
    loss_d = softplus(-critic(real)).mean() + softplus(critic(fake.detach())).mean()
    loss_d.backward()
    opt_d.step()
    opt_g.zero_grad()
    softplus(-critic(fake)).mean().backward()
    opt_g.step()
    return loss_d


with lrfinder.LRSweep([generator, critic], [opt_g, opt_d], start_lr=1e-6, end_lr=1.0) as sweep:
    for real in sweep(loader):
        sweep.report(training_step(real))
print(sweep.curve)
lr = sweep.curve.suggest("minimum")  # up to here the critic gets better; beyond, the two drive each other away
print(f"critic lr {lr:.2g}, generator lr {lr / 2:.2g}")
