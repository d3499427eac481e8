"""Cleared before the loop, and then after each step, by hand for one layer and by the module for the other."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
body, head = nn.Sequential(nn.Linear(4, 8), nn.Tanh()), nn.Linear(8, 1)
optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.01)
optimizer.zero_grad()
for _ in range(24):
    nn.functional.mse_loss(head(body(x)), y).backward()
    optimizer.step()
    head.zero_grad()
    for p in body.parameters():
        p.grad = None
