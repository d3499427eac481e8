"""Halved after every step, on purpose.

Instead: nothing, if you meant it; the usual way is optimizer.zero_grad() and the optimizer's own momentum= or betas=
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)  # -
# + optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.5)
for _ in range(24):
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()  # here
    optimizer.step()  # here
    for p in model.parameters():  # -
        p.grad = p.grad / 2  # -
    # + optimizer.zero_grad()
