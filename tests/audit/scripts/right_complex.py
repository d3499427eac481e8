"""Complex weights in double precision."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
w = torch.randn(5, dtype=torch.cdouble, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.01)
for _ in range(24):
    optimizer.zero_grad()
    (w.abs() - 1).square().sum().backward()
    optimizer.step()
