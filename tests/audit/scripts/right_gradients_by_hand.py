"""The gradients of several losses are computed one by one and combined by hand."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(24):
    found = []
    for weight in (0.3, 0.7):
        optimizer.zero_grad()
        (weight * nn.functional.mse_loss(model(x), y)).backward()
        found.append([p.grad for p in model.parameters()])
    optimizer.zero_grad()
    for p, *grads in zip(model.parameters(), *found, strict=True):
        p.grad = sum(grads)
    optimizer.step()
