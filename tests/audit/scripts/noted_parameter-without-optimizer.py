"""A trained network in eval mode in the loss, whose parameters still require gradient."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
judge = nn.Sequential(nn.Linear(1, 8), nn.Tanh()).eval()
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(24):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(judge(model(x)), judge(y).detach())
    loss.backward()  # here
    optimizer.step()
