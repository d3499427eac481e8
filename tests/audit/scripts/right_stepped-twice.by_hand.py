"""Every second step uses a gradient that torch.autograd.grad computes, copied into the same .grad."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(20):
    optimizer.zero_grad()
    nn.functional.mse_loss(model(x), y).backward()
    optimizer.step()
    for p, g in zip(
        model.parameters(),
        torch.autograd.grad(nn.functional.mse_loss(model(x), y), list(model.parameters())),
        strict=True,
    ):
        p.grad.copy_(g)
    optimizer.step()
