"""LBFGS, clipped in the closure after its backward pass."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = 5 * x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)


def closure():
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    return loss


for _ in range(20):
    optimizer.step(closure)
