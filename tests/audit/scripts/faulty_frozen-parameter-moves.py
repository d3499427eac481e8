"""A layer is frozen after some epochs; zeros in .grad let momentum and weight decay continue.

Instead: p.grad = None when you freeze p, and zero_grad() with set_to_none=True; or remove p from the optimizer
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
for nth in range(100):
    if nth == 10:
        model[0].requires_grad_(False)
        # + optimizer = torch.optim.SGD(model[2].parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    optimizer.zero_grad(set_to_none=False)
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()  # here
