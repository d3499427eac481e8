"""A backbone is unfrozen after some updates; the optimizer holds it from the start."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
model[0].requires_grad_(False)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
for nth in range(40):
    if nth == 17:
        model[0].requires_grad_(True)
    loss = nn.functional.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
