"""The optimizer holds a copy of the trained model.

Instead: pass it the parameters that the loss depends on, and look for detach(), .data, .item() or no_grad() before the
loss
"""

import copy

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(copy.deepcopy(model).parameters(), lr=0.01)  # -
# + optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(24):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()  # here
