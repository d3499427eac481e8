"""Losses summed without their graphs, one graph used repeatedly, and the last few outputs kept."""

from collections import deque

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
offset = nn.Parameter(torch.zeros(1))
twice = 2 * offset
optimizer = torch.optim.SGD([*model.parameters()], lr=0.01)
of_offset = torch.optim.SGD([offset], lr=0.0)
total, losses, kept, hidden = 0.0, [], deque(maxlen=20), torch.zeros(1)
for _ in range(120):
    optimizer.zero_grad()
    of_offset.zero_grad()
    outputs = model(x) + twice + hidden
    loss = nn.functional.mse_loss(outputs, y)
    loss.backward(retain_graph=True)
    optimizer.step()
    of_offset.step()
    total += loss.item()
    losses.append(loss.detach())
    kept.append(outputs)
    hidden = 0.01 * outputs.mean().detach()
