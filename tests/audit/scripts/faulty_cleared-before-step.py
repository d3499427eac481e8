"""Cleared between the backward pass and the step.

Instead: clear before loss.backward() or after optimizer.step()
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(24):
    loss = nn.functional.mse_loss(model(x), y)
    # + optimizer.zero_grad()
    loss.backward()
    optimizer.zero_grad()  # - here
    optimizer.step()  # here
