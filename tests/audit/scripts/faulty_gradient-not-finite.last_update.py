"""The last of twelve updates makes the weights nan."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for nth in range(12):
    optimizer.zero_grad()
    distance = (model(x) - y).square().sum(1)
    if nth == 11:
        distance = distance - distance.detach()
    distance.sqrt().mean().backward()  # here
    optimizer.step()  # here
