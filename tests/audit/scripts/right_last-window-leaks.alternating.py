"""Windows of four, four and six alternate on purpose, and each divides by its own length."""

import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for update in range(24):
    length = 6 if update >= 2 and update % 2 == 0 else 4
    for x in torch.randn(length, 8, 4):
        (nn.functional.mse_loss(model(x), x.sum(1, keepdim=True)) / length).backward()
    optimizer.step()
    optimizer.zero_grad()
