"""A layer that the model does not use.

Instead: nothing, if you meant it; otherwise call the layer in forward(), or look for detach(), .data, .item() or
no_grad() before the loss
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
model.pooler = nn.Linear(8, 8)
model.forward = lambda x: model[2](model[1](model[0](x)))  # -
# + model.forward = lambda x: model[2](model.pooler(model[1](model[0](x))))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(24):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()  # here
