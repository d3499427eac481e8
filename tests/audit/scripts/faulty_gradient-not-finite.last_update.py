"""The last of twelve updates makes the weights nan.

Instead: a lower lr, clip_grad_norm_(), or a formula with a finite gradient, such as sqrt(x + eps);
torch.autograd.detect_anomaly() names the operation
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for nth in range(12):
    optimizer.zero_grad()
    distance = (model(x) - y).square().sum(1)
    if nth == 11:
        distance = distance - distance.detach()
    distance.sqrt().mean().backward()  # - here
    # + (distance + 1e-8).sqrt().mean().backward()
    optimizer.step()  # here
