"""After some updates the best model replaces the trained one; the optimizer still holds the old one.

Instead: create the optimizer after the model has all its parameters, again if you replace the model, or
add_param_group()
"""

import copy

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
best = copy.deepcopy(model)
for nth in range(60):
    if nth == 20:
        model = copy.deepcopy(best)
        # + optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()  # here
    optimizer.step()
