"""A variational loss whose log of a variance is nan from update 115 on, between two measured updates.

Instead: a lower lr, clip_grad_norm_(), or a formula with a finite gradient, such as sqrt(x + eps); --sample 1 finds
the update
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Gaussian(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.Tanh())
        self.mean, self.width = nn.Linear(8, 1), nn.Linear(8, 1)

    def forward(self, inputs, floor):
        hidden = self.body(inputs)
        return self.mean(hidden), torch.relu(self.width(hidden)) + floor


def negative_log_likelihood(mean, deviation, targets):
    variance = deviation.square()  # -
    # + variance = deviation.square() + 1e-4
    return (((targets - mean).square() / variance + variance.log()) / 2).mean()


def train(model, loader, epochs):
    optimizer, updates = torch.optim.Adam(model.parameters(), lr=1e-3), 0
    for _epoch in range(epochs):
        for inputs, targets in loader:
            updates += 1
            floor = 0.1 if updates < 115 else 0.0
            optimizer.zero_grad()
            loss = negative_log_likelihood(*model(inputs, floor), targets)
            loss.backward()  # here
            optimizer.step()  # here


torch.manual_seed(0)
x = torch.randn(64, 4)
train(Gaussian(), DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True), 25)
