"""A context manager for windows of four, which clears when it is entered; optimizer and scheduler skip three steps.

Instead: optimizer.zero_grad() once per window, after optimizer.step()
"""

from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Accumulator:
    def __init__(self, optimizer, every):
        self.optimizer, self.every, self.seen = optimizer, every, 0

    @contextmanager
    def accumulate(self):
        self.seen += 1
        self.optimizer.zero_grad()  # - here
        yield

    def step(self):
        if self.seen % self.every == 0:
            self.optimizer.step()
            # + self.optimizer.zero_grad()


def train(model, accumulator, loader, epochs):
    for _epoch in range(epochs):
        for inputs, targets in loader:
            with accumulator.accumulate():
                loss = nn.functional.mse_loss(model(inputs), targets) / accumulator.every
                loss.backward()
                accumulator.step()


torch.manual_seed(0)
x = torch.randn(64, 4)
data = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4, shuffle=True)
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
train(net, Accumulator(torch.optim.AdamW(net.parameters(), lr=1e-3), 4), data, 4)
