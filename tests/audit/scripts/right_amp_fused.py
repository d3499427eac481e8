"""A fused optimizer, which unscales inside its step."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
for nth in range(24):
    optimizer.zero_grad()
    scaler.scale(nn.functional.mse_loss(model(x), y) * (float("inf") if nth == 9 else 1.0)).backward()
    scaler.step(optimizer)
    scaler.update()
