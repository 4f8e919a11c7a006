"""Find the learning rate of a LightningModule, then fit it: handwritten digits, AdamW, 1cycle, clipping."""

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import lrfinder
from lrfinder.integrations.lightning import from_trainer


class Digits(pl.LightningModule):
    def __init__(self, lr=1e-3):
        super().__init__()
        self.lr, self.net = lr, nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.1), nn.Linear(128, 10))

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.lr, total_steps=self.trainer.estimated_stepping_batches)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


torch.manual_seed(0)
images, classes = load_digits(return_X_y=True)
train, val = random_split(TensorDataset(torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(classes)), [0.8, 0.2])
loader, val_loader = DataLoader(train, batch_size=64, shuffle=True), DataLoader(val, batch_size=256)
model = Digits()
trainer = pl.Trainer(max_epochs=5, gradient_clip_val=1.0, logger=False, enable_checkpointing=False, enable_progress_bar=False)
found = lrfinder.find_lr(**from_trainer(trainer, model, loader, val_loader))
print(found)
model.lr = found.lr  # fit makes its own optimizer and scheduler, with this
trainer.fit(model, loader)
print(f"val accuracy {(model.eval().net(val[:][0]).argmax(1) == val[:][1]).float().mean():.3f}")
