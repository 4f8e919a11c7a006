"""Find the learning rate of a training with Accelerate, then train with it: handwritten digits, gradients accumulated, bfloat16."""

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import lrfinder
from lrfinder.integrations.accelerate import from_accelerator

EPOCHS = 5

torch.manual_seed(0)
images, classes = load_digits(return_X_y=True)
digits = TensorDataset(torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(classes))
train, val = random_split(digits, [0.8, 0.2])
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
criterion = nn.CrossEntropyLoss()

accelerator = Accelerator(gradient_accumulation_steps=2, mixed_precision="bf16")
loader = DataLoader(train, batch_size=16, shuffle=True)
model, optimizer, loader, val_loader = accelerator.prepare(model, optimizer, loader, DataLoader(val, batch_size=512))

plan = {"total_steps": EPOCHS * len(loader) // 2, "schedule": "constant", "clip_norm": 1.0}
found = lrfinder.find_lr(**from_accelerator(accelerator, model, optimizer, loader, criterion, budget="quick", **plan))
print(found)
found.apply(optimizer)
for _ in range(EPOCHS):
    for inputs, target in loader:
        with accelerator.accumulate(model):
            accelerator.backward(criterion(model(inputs), target))
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
[(inputs, target)] = val_loader
print(f"val accuracy {(model.eval()(inputs).argmax(1) == target).float().mean().item():.3f}")
