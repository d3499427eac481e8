"""Sharpness-aware minimization: the second gradient is computed at other weights."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(24):
    nn.functional.mse_loss(model(x), y).backward()
    with torch.no_grad():
        steps = [0.05 * p.grad for p in model.parameters()]
        for p, step in zip(model.parameters(), steps, strict=True):
            p.add_(step)
    optimizer.zero_grad()
    nn.functional.mse_loss(model(x), y).backward()
    with torch.no_grad():
        for p, step in zip(model.parameters(), steps, strict=True):
            p.sub_(step)
    optimizer.step()
    optimizer.zero_grad()
