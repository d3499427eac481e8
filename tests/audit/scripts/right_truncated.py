"""Truncated backpropagation through time: the state continues without its graph."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
cell, head = nn.GRUCell(4, 8), nn.Linear(8, 1)
optimizer = torch.optim.Adam([*cell.parameters(), *head.parameters()], lr=0.01)
state = torch.zeros(16, 8)
for _ in range(24):
    optimizer.zero_grad()
    state = state.detach()
    loss = 0
    for part in x.split(16):
        state = cell(part, state)
        loss = loss + nn.functional.mse_loss(head(state), part.sum(1, keepdim=True))
    loss.backward()
    optimizer.step()
