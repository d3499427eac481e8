"""Thirty updates; from the 15th on everything is nan.

Instead: a lower lr, clip_grad_norm_(), or a formula with a finite gradient, such as sqrt(x + eps);
torch.autograd.detect_anomaly() names the operation
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(240, 8)
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for i, batch in enumerate(x.split(8)):
    optimizer.zero_grad()
    out = model(batch)
    loss = (out - batch[:, :1]).square().mean() if i != 14 else (out * 0).sqrt().mean()  # -
    # + loss = (out - batch[:, :1]).square().mean() if i != 14 else (out * 0 + 1e-8).sqrt().mean()
    loss.backward()  # here
    optimizer.step()  # here
print(loss.item())
