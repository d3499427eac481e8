"""LBFGS, whose closure clears, and then accumulates over two halves."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.01, max_iter=4)


def closure():
    optimizer.zero_grad()
    loss = 0.0
    for half in (slice(32), slice(32, 64)):
        part = nn.functional.mse_loss(model(x[half]), y[half]) / 2
        part.backward()
        loss += part.detach()
    return loss


for _ in range(12):
    optimizer.step(closure)
