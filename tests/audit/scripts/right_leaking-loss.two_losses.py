"""A body with its own loss and a shared one; its head has another optimizer and steps first."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
body, head = nn.Linear(4, 4), nn.Linear(4, 1)
of_body, of_head = torch.optim.Adam(body.parameters()), torch.optim.Adam(head.parameters())
for _ in range(24):
    of_body.zero_grad()
    of_head.zero_grad()
    nn.functional.mse_loss(body(x), x).backward()
    nn.functional.mse_loss(head(body(x).tanh()), y).backward()
    of_head.step()
    of_body.step()
