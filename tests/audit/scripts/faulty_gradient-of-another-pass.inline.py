"""One function takes the pass of the clean batch, which also gives the attack, and that of the attacked batch.

Instead: nothing, if you train on both losses; otherwise torch.autograd.grad(loss, inputs) instead of that pass; or
optimizer.zero_grad() after it, if the loop accumulates nothing
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 6)
y = (x.sum(1) > 0).long()
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for _ in range(40):
    optimizer.zero_grad()
    clean = x.clone().requires_grad_()
    loss_clean = criterion(model(clean), y)
    loss_clean.backward()  # - here
    # + (gradient,) = torch.autograd.grad(loss_clean, clean)
    attacked = (clean + 0.05 * clean.grad.sign()).detach()  # -
    # + attacked = (clean + 0.05 * gradient.sign()).detach()
    loss_attacked = criterion(model(attacked), y)
    loss_attacked.backward()
    optimizer.step()
