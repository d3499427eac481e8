"""A trainer counts batches from 0 in every epoch, so its first window has one of them; the learning rate is warmed up.

Instead: if (i + 1) % 3 == 0, counting i from 0
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Trainer:
    def __init__(self, model, every):
        self.model, self.every = model, every
        self.optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        self.schedule = torch.optim.lr_scheduler.LinearLR(self.optimizer, total_iters=10)

    def window_is_full(self, i):
        return i % self.every == 0  # -
        # + return (i + 1) % self.every == 0

    def train_epoch(self, loader):
        for i, (inputs, labels) in enumerate(loader):
            loss = nn.functional.cross_entropy(self.model(inputs), labels)
            (loss / self.every).backward()
            if self.window_is_full(i):
                self.optimizer.step()  # here
                self.optimizer.zero_grad()
                self.schedule.step()


torch.manual_seed(0)
x = torch.randn(96, 4)
data = DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=8, shuffle=True)
trainer = Trainer(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), every=3)
for _ in range(4):
    trainer.train_epoch(data)
