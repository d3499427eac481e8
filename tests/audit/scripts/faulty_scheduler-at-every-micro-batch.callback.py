"""A callback steps a one-cycle schedule after every batch, but the trainer steps once in three batches.

Instead: scheduler.step() right after optimizer.step(), once per window
"""

import warnings

import torch
from torch import nn


class OneCycle:
    def __init__(self, optimizer, steps):
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=steps)

    def after_batch(self, stepped):
        self.scheduler.step()  # - here
        # + if stepped:
        # +     self.scheduler.step()


class Trainer:
    def __init__(self, model, every):
        self.model, self.every = model, every
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def fit(self, batches, callback):
        for i, inputs in enumerate(batches):
            (nn.functional.mse_loss(self.model(inputs), inputs) / self.every).backward()
            full = (i + 1) % self.every == 0
            if full:
                self.optimizer.step()
                self.optimizer.zero_grad()
            callback.after_batch(full)


warnings.filterwarnings("ignore", "Detected call of")  # torch warns once
torch.manual_seed(0)
trainer = Trainer(nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 4)), every=3)
trainer.fit(torch.randn(48, 16, 4), OneCycle(trainer.optimizer, 49))
