"""One line computes the gradients of two losses; the step uses their sum."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(24):
    found = []
    for half in (slice(0, 32), slice(32, 64)):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x[half]), y[half]).backward()
        found.append([p.grad for p in model.parameters()])
    for p, *grads in zip(model.parameters(), *found, strict=True):
        p.grad = sum(grads)
    optimizer.step()
