"""Sharpness-aware minimization: one line computes both gradients, and .data changes the weights."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(24):
    for last in (False, True):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        if not last:
            steps = [0.05 * p.grad for p in model.parameters()]
        for p, step in zip(model.parameters(), steps, strict=True):
            p.data.add_(step if not last else -step)
    optimizer.step()
