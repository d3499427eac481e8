"""Warm-up and cosine count micro-batches in their length, but step once for a window of four.

Instead: the number of optimizer steps, such as epochs * len(loader) // N with N micro-batches
"""

import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset


class Trainer:
    def __init__(self, model, loader, epochs, accumulate=4):
        self.model, self.loader, self.epochs, self.accumulate = model, loader, epochs, accumulate
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        total = epochs * len(loader)  # -
        # + total = epochs * len(loader) // accumulate
        warm_up = lr_scheduler.LinearLR(self.optimizer, 0.1, total_iters=4)
        cosine = lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=total - 4)
        self.scheduler = lr_scheduler.SequentialLR(self.optimizer, [warm_up, cosine], milestones=[4])

    def train(self):
        for _epoch in range(self.epochs):
            for nth, (inputs, targets) in enumerate(self.loader, 1):
                loss = nn.functional.mse_loss(self.model(inputs), targets)
                (loss / self.accumulate).backward()
                if nth % self.accumulate == 0:
                    self.optimizer.step()
                    self.optimizer.zero_grad()
                    self.scheduler.step()  # here


torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
loader = DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
Trainer(model, loader, epochs=6).train()
