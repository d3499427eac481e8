"""One layer is used twice, and two layers share weights."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
inner, outer = nn.Linear(4, 4), nn.Linear(4, 4)
outer.weight = inner.weight
model = nn.Sequential(inner, nn.Tanh(), inner, nn.Tanh(), outer, nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(24):
    optimizer.zero_grad()
    nn.functional.mse_loss(model(x), y).backward()
    optimizer.step()
