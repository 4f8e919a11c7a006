"""Sharded training (FSDP2), the LR found first: `torchrun --nproc-per-node 2 fsdp.py`."""

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import hessian
import lrfinder

dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
torch.manual_seed(0)
images, classes = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(classes))
loader = DataLoader(data, batch_size=32, sampler=DistributedSampler(data))
criterion = nn.CrossEntropyLoss()

model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
for layer in (model[0], model[2], model):
    fully_shard(layer)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)  # made after sharding, as always

curve = lrfinder.range_test(model, optimizer, loader, criterion)
limit = hessian.stable_lr(model, optimizer, loader, criterion)  # products with whole parameters if they fit, differences if not
if dist.get_rank() == 0:
    print(f"the loss broke at lr {curve.break_lr:.2g}\n{limit}")
    lrfinder.plot(curve, limit, path="lr.png")
dist.destroy_process_group()
