"""The square root of a distance that becomes 0.

Instead: a lower lr, clip_grad_norm_(), or a formula with a finite gradient, such as sqrt(x + eps);
torch.autograd.detect_anomaly() names the operation
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for nth in range(100):
    optimizer.zero_grad()
    outputs = model(x)
    targets = outputs.detach() if nth == 12 else y
    loss = (outputs - targets).square().sum().sqrt()  # -
    # + loss = ((outputs - targets).square().sum() + 1e-8).sqrt()
    loss.backward()  # here
    optimizer.step()  # here
