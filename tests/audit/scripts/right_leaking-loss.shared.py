"""Two alternating tasks with a head and an optimizer each; the second optimizer has the shared body."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
body, first, second = nn.Linear(4, 8), nn.Linear(8, 1), nn.Linear(8, 1)
of_first = torch.optim.SGD(first.parameters(), lr=0.01)
of_rest = torch.optim.SGD([*body.parameters(), *second.parameters()], lr=0.01)
for _ in range(24):
    nn.functional.mse_loss(first(body(x)), y).backward()
    of_first.step()
    nn.functional.mse_loss(second(body(x)), -y).backward()
    of_rest.step()
    of_first.zero_grad()
    of_rest.zero_grad()
