"""A layer is frozen for the last ten of fifty updates; AdamW decays it, because model.zero_grad() writes zeros.

Instead: p.grad = None when you freeze p, and zero_grad() with set_to_none=True; or remove p from the optimizer
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
for nth in range(50):
    if nth == 40:
        for p in model[0].parameters():
            p.requires_grad = False
            # + p.grad = None
    model.zero_grad(set_to_none=False)  # -
    # + model.zero_grad(set_to_none=True)
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()  # here
