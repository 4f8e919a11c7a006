"""A new learning rate in the middle of a training: measured from the present weights and AdamW state, which stay as they are."""

import copy

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import lrfinder

torch.manual_seed(0)
images, classes = load_digits(return_X_y=True)
train, val = random_split(TensorDataset(torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(classes)), [0.8, 0.2])
loader, val_loader = DataLoader(train, batch_size=64, shuffle=True), DataLoader(val, batch_size=len(val))
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
criterion = nn.CrossEntropyLoss()


def epochs(count, scheduler=None):
    for inputs, target in (batch for _ in range(count) for batch in loader):
        optimizer.zero_grad()
        criterion(model(inputs), target).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    ((inputs, target),) = val_loader
    print(f"val accuracy {(model(inputs).argmax(1) == target).float().mean():.3f}")


epochs(5)  # too slow: what LR would be better from here?
steps, before = 5 * len(loader), copy.deepcopy([model.state_dict(), optimizer.state_dict(), torch.get_rng_state()])
found = lrfinder.find_lr(model, optimizer, loader, criterion, val_data=val_loader, total_steps=steps, schedule="cosine")
print(found)
torch.testing.assert_close([model.state_dict(), optimizer.state_dict(), torch.get_rng_state()], before, rtol=0, atol=0)
print("nothing was disturbed")
found.apply(optimizer)
epochs(5, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps))
