"""Gradients are sometimes inf or nan: the step is skipped by a scaler or by hand, or they are repaired."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
for nth in range(60):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y) * (float("inf") if nth % 5 == 4 else 1.0)
    scaler.scale(loss).backward()
    if nth % 3 == 0:
        scaler.unscale_(optimizer)
        for p in model.parameters():
            p.grad.nan_to_num_(0.0, 0.0, 0.0)
    scaler.step(optimizer)
    scaler.update()
