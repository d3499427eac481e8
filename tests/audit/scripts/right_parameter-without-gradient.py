"""Frozen layers, shared weights, a rarely used branch, averaged weights, features under no_grad()."""

import copy

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
features = nn.Linear(4, 4)
model = nn.ModuleList([nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 1)])
model[2].weight = model[1].weight
model[0].requires_grad_(False)
average = copy.deepcopy(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for nth in range(60):
    with torch.no_grad():
        found = features(x)
    hidden = model[2](model[1](model[0](found).tanh()).tanh()).tanh()
    if nth % 13 == 12:
        hidden = model[3](hidden)
    optimizer.zero_grad()
    nn.functional.mse_loss(model[4](hidden), y).backward()
    optimizer.step()
    with torch.no_grad():
        for mean, p in zip(average.parameters(), model.parameters(), strict=True):
            mean.lerp_(p, 0.1)
