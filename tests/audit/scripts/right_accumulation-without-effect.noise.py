"""Differential privacy by hand: each clipped gradient is added to a noisy sum and cleared; the step uses the sum."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for _ in range(30):
    sums = [0.01 * torch.randn_like(p) for p in model.parameters()]
    for one in torch.randint(64, (4,)).tolist():
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x[one]), y[one]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for p, total in zip(model.parameters(), sums, strict=True):
            total += p.grad
    for p, total in zip(model.parameters(), sums, strict=True):
        p.grad.copy_(total / 4)
    optimizer.step()
