"""A trained network in eval mode in the loss, whose parameters still require gradient.

Instead: requires_grad_(False), if they should stay fixed
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
judge = nn.Sequential(nn.Linear(1, 8), nn.Tanh()).eval()
# + judge.requires_grad_(False)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(24):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(judge(model(x)), judge(y).detach())
    loss.backward()  # here
    optimizer.step()
