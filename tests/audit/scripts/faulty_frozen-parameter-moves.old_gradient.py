"""A layer is frozen between the backward pass and the step, and keeps its old gradient.

Instead: p.grad = None when you freeze p, and zero_grad() with set_to_none=True; or remove p from the optimizer
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
for nth in range(100):
    model[2].zero_grad()
    if nth <= 10:
        model[0].zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    if nth == 10:
        model[0].requires_grad_(False)
        # + for p in model[0].parameters():
        # +     p.grad = None
    optimizer.step()  # here
