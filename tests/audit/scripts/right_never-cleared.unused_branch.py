"""A branch is used in every third update; only the active parts are cleared, and the idle branch has no gradient."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
body, often, rarely = nn.Linear(4, 8), nn.Linear(8, 1), nn.Linear(8, 1)
optimizer = torch.optim.SGD([*body.parameters(), *often.parameters(), *rarely.parameters()], lr=0.01)
for nth in range(60):
    head = rarely if nth % 3 == 2 else often
    nn.functional.mse_loss(head(body(x).relu()), y).backward()
    optimizer.step()
    body.zero_grad()
    head.zero_grad()
