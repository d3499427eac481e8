"""A trainer with windows of two clears when a window is full, but before it steps.

Instead: clear after optimizer.step(), not before it
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Trainer:
    def __init__(self, model, every=2):
        self.model, self.every = model, every
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def update(self):
        self.optimizer.zero_grad()  # - here
        self.optimizer.step()  # here
        # + self.optimizer.zero_grad()

    def fit(self, loader, epochs):
        for _epoch in range(epochs):
            for nth, (inputs, targets) in enumerate(loader, 1):
                (nn.functional.mse_loss(self.model(inputs), targets) / self.every).backward()
                if nth % self.every == 0:
                    self.update()


torch.manual_seed(0)
x = torch.randn(64, 4)
data = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
Trainer(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))).fit(data, 3)
