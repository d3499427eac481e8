"""Half of the loss on the batch and half on its attacked version: both gradients are meant to be in the step."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 6)
y = (x.sum(1) > 0).long()
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for _ in range(40):
    optimizer.zero_grad()
    inputs = x.clone().requires_grad_(True)
    (0.5 * nn.functional.cross_entropy(model(inputs), y)).backward()
    attacked = (inputs + 0.05 * inputs.grad.sign()).detach()
    (0.5 * nn.functional.cross_entropy(model(attacked), y)).backward()
    optimizer.step()
