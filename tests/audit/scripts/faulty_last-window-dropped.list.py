"""A list of ten batches and windows of four: at the start of an epoch, zero_grad() clears the last two."""

import torch
from torch import nn


class Trainer:
    def __init__(self, model, every):
        self.model, self.every = model, every
        self.optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def epoch(self, batches):
        self.optimizer.zero_grad()
        for nth, (x, y) in enumerate(batches, 1):
            loss = nn.functional.mse_loss(self.model(x), y) / self.every
            loss.backward()
            if nth % self.every == 0:
                self.optimizer.step()  # here
                self.optimizer.zero_grad()


torch.manual_seed(0)
batches = [(x, x.sum(1, keepdim=True)) for x in torch.randn(10, 8, 4)]
trainer = Trainer(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)), every=4)
for _ in range(8):
    trainer.epoch(batches)
