"""A list of ten batches and windows of four: at the start of an epoch, zero_grad() clears the last two.

Instead: optimizer.step() after the last window of an epoch too, before zero_grad(); divide the losses of that window
by its own length
"""

import torch
from torch import nn


class Trainer:
    def __init__(self, model, every):
        self.model, self.every = model, every
        self.optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def epoch(self, batches):
        self.optimizer.zero_grad()
        for nth, (x, y) in enumerate(batches, 1):
            loss = nn.functional.mse_loss(self.model(x), y) / self.every  # -
            # + left = len(batches) % self.every
            # + loss = nn.functional.mse_loss(self.model(x), y) / (left if nth > len(batches) - left else self.every)
            loss.backward()
            if nth % self.every == 0:
                self.optimizer.step()  # here
                self.optimizer.zero_grad()
        # + if left:
        # +     self.optimizer.step()


torch.manual_seed(0)
batches = [(x, x.sum(1, keepdim=True)) for x in torch.randn(10, 8, 4)]
trainer = Trainer(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)), every=4)
for _ in range(8):
    trainer.epoch(batches)
