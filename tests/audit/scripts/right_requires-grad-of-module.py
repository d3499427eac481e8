"""The backbone is frozen by requires_grad_(False), and another one by its parameters, beside the attribute."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
first, second = nn.Linear(4, 8).requires_grad_(False), nn.Linear(8, 8)
second.requires_grad = False
for p in second.parameters():
    p.requires_grad = second.requires_grad
third = nn.Linear(8, 8)
third.requires_grad = False
third.weight.requires_grad_(False)
model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third, nn.Linear(8, 1))
optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
for _ in range(40):
    optimizer.zero_grad()
    nn.functional.mse_loss(model(x), y).backward()
    optimizer.step()
