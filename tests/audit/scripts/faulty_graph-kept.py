"""The losses are added up with their graphs.

Instead: total += loss.item() or loss.detach(), also for outputs that you keep; hidden.detach() between windows
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
total = 0.0
for _ in range(120):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()  # here
    optimizer.step()
    total += loss  # -
    # + total += loss.item()
