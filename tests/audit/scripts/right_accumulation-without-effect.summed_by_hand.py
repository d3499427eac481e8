"""Differential privacy: per-sample gradients are clipped, summed by hand and replaced by zeros."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(24):
    sums = [torch.zeros_like(p) for p in model.parameters()]
    for one in torch.randint(64, (4,)).tolist():
        nn.functional.mse_loss(model(x[one]), y[one]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for p, total in zip(model.parameters(), sums, strict=True):
            total += p.grad
            p.grad.zero_()
    for p, total in zip(model.parameters(), sums, strict=True):
        p.grad.copy_(total / 4)
    optimizer.step()
    optimizer.zero_grad()
