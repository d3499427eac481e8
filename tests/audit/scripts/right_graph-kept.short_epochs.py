"""Losses are collected with their graphs for an epoch of ten updates."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
means = []
for _ in range(3):
    losses = []
    for inputs, targets in zip(x[:60].split(6), y[:60].split(6), strict=True):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss)
    means.append(torch.stack(losses).mean().item())
