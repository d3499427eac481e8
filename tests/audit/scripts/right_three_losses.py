"""Three losses from one line before one step."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
targets = [y, y + 1, 2 * y]
for _ in range(24):
    optimizer.zero_grad()
    for target in targets:
        (nn.functional.mse_loss(model(x), target) / len(targets)).backward()
    optimizer.step()
