"""A closure with two losses that is called once per step, cleared before the step."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)


def closure():
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    penalty = 0.01 * sum(p.square().sum() for p in model.parameters())
    penalty.backward()
    return loss


for _ in range(24):
    optimizer.zero_grad()
    optimizer.step(closure)
