"""Cross-validation: every fold begins with the initial weights and a new Adam."""

import copy

import torch
from torch import nn


def train(model, x, y, updates=10):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(updates):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()


torch.manual_seed(0)
x = torch.randn(60, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
initial = copy.deepcopy(model.state_dict())
errors = []
for fold in range(6):
    model.load_state_dict(initial)
    held_out = torch.zeros(60, dtype=torch.bool)
    held_out[10 * fold : 10 * fold + 10] = True
    train(model, x[~held_out], y[~held_out])
    errors.append(nn.functional.mse_loss(model(x[held_out]), y[held_out]).item())
