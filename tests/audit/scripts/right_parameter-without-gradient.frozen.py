"""The optimizer holds the whole model, most of which is frozen."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
model.requires_grad_(False)
model[4].requires_grad_(True)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
for _ in range(24):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
