"""Eight stacked models, with one backward pass of their summed losses."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
models = [nn.Linear(4, 1) for _ in range(8)]
weights, _buffers = torch.func.stack_module_state(models)
optimizer = torch.optim.SGD(weights.values(), lr=0.01)
one = torch.func.vmap(lambda given: nn.functional.mse_loss(torch.func.functional_call(models[0], given, x), y))
for _ in range(24):
    optimizer.zero_grad()
    one(weights).sum().backward()
    optimizer.step()
