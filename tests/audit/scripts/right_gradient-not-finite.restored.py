"""An update makes the weights nan; the last good ones are restored, with a lower lr."""

import copy

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
good = copy.deepcopy(model.state_dict())
for nth in range(30):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    if nth in (14, 28):
        loss = (loss - loss.detach()).sqrt()
    loss.backward()
    optimizer.step()
    if any(p.isnan().any() for p in model.parameters()):
        model.load_state_dict(good)
        optimizer.param_groups[0]["lr"] /= 2
    else:
        good = copy.deepcopy(model.state_dict())
