"""A trainer with hooks, which clears in the hook for the start of an epoch; the batches are a list.

Instead: optimizer.zero_grad() before each loss.backward()
"""

import torch
from torch import nn


class Trainer:
    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def on_epoch_start(self):
        self.model.train()
        self.model.zero_grad()  # - here

    def on_batch_start(self):
        self.batches_seen += 1
        # + self.optimizer.zero_grad()

    def fit(self, batches, epochs):
        self.batches_seen = 0
        for _epoch in range(epochs):
            self.on_epoch_start()
            for inputs in batches:
                self.on_batch_start()
                nn.functional.mse_loss(self.model(inputs), inputs).backward()
                self.optimizer.step()


torch.manual_seed(0)
Trainer(nn.Sequential(nn.Linear(4, 2), nn.Tanh(), nn.Linear(2, 4))).fit(list(torch.randn(6, 16, 4)), epochs=6)
