"""Find the learning rate, then train with it: handwritten digits, SGD with momentum, 1cycle."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import lrfinder

EPOCHS = 10

torch.manual_seed(0)
images, classes = load_digits(return_X_y=True)
digits = TensorDataset(torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(classes))
train, val = random_split(digits, [0.8, 0.2])
loader, val_loader = DataLoader(train, batch_size=64, shuffle=True), DataLoader(val, batch_size=256)

model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)  # any lr will do: it is about to be found
criterion = nn.CrossEntropyLoss()
steps = EPOCHS * len(loader)

found = lrfinder.find_lr(model, optimizer, loader, criterion, val_data=val_loader, total_steps=steps, schedule="onecycle")
print(found)
found.save("lr.png")
scheduler = found.one_cycle(optimizer)

for _ in range(EPOCHS):
    for inputs, target in loader:
        optimizer.zero_grad()
        criterion(model(inputs), target).backward()
        optimizer.step()
        scheduler.step()

with torch.no_grad():
    right = sum((model(inputs).argmax(1) == target).sum().item() for inputs, target in val_loader)
print(f"val accuracy {right / len(val):.3f}")
