"""LBFGS, whose closure never clears.

Instead: optimizer.zero_grad() in the closure, before loss.backward()
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.01, max_iter=4)


def closure():
    loss = nn.functional.mse_loss(model(x), y)
    # + optimizer.zero_grad()
    loss.backward()  # here
    return loss


for _ in range(12):
    optimizer.step(closure)
