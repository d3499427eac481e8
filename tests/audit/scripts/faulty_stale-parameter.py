"""The head is replaced after the optimizer was created.

Instead: create the optimizer after the model has all its parameters, again if you replace the model, or
add_param_group()
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)  # -
model[2] = nn.Linear(8, 1)
# + optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(24):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()  # here
    optimizer.step()
