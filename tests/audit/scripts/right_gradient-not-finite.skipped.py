"""Batches with a loss of nan are skipped, at the end of a short training too."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for nth in range(30):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y * (float("nan") if nth in (7, 8, 9, 29) else 1.0))
    loss.backward()
    if loss.isfinite():
        optimizer.step()
