"""The square root of a distance that becomes 0."""

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
    loss = (outputs - targets).square().sum().sqrt()
    loss.backward()  # here
    optimizer.step()  # here
