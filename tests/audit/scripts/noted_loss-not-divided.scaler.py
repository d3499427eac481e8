"""A trainer with mixed precision and windows of four, whose scaled losses are summed.

Instead: scaler.scale(loss / 4).backward()
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Trainer:
    def __init__(self, model, every):
        self.model, self.every = model, every
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def train_epoch(self, loader):
        for i, (inputs, labels) in enumerate(loader):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = nn.functional.cross_entropy(self.model(inputs).float(), labels)
            self.scaler.scale(loss).backward()  # - here
            # + self.scaler.scale(loss / self.every).backward()
            if (i + 1) % self.every == 0:
                self.scaler.step(self.optimizer)
                self.scaler.update()
                self.optimizer.zero_grad()


torch.manual_seed(0)
x = torch.randn(128, 4)
data = DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=8, shuffle=True)
trainer = Trainer(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), every=4)
for _ in range(4):
    trainer.train_epoch(data)
