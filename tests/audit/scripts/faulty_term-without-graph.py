"""The penalty on the weights is a number, because .item() cuts its graph.

Instead: the term without detach(), .item(), .data or no_grad(); or log it apart from the loss
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for _ in range(40):
    optimizer.zero_grad()
    penalty = sum(p.square().sum().item() for p in model.parameters())  # -
    # + penalty = sum(p.square().sum() for p in model.parameters())
    loss = nn.functional.mse_loss(model(x), y) + 0.01 * penalty
    loss.backward()  # here
    optimizer.step()
