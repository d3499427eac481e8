"""One loss and two optimizers; one of them accumulates over four."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
slow = torch.optim.SGD(model[0].parameters(), lr=0.01)
quick = torch.optim.SGD(model[2].parameters(), lr=0.01)
for nth in range(96):
    nn.functional.mse_loss(model(x), y).backward()
    if nth % 4 == 3:
        slow.step()
        slow.zero_grad()
    quick.step()
    quick.zero_grad()
