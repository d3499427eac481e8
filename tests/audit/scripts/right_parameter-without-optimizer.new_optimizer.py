"""A backbone is unfrozen after some updates, and a new optimizer is made for all parameters."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def fit(parameters, updates):
    optimizer = torch.optim.AdamW(parameters, lr=0.01)
    for _ in range(updates):
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


model[0].requires_grad_(False)
fit(model[2].parameters(), 20)
model[0].requires_grad_(True)
fit(model.parameters(), 30)
