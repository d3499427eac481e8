"""The optimizer holds all stages of a network that grows, so most get no gradient at first."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
stages = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))
head = nn.Linear(4, 1)
optimizer = torch.optim.Adam([*stages.parameters(), *head.parameters()], lr=0.01)
for nth in range(60):
    hidden = x
    for stage in stages[: 1 + nth // 15]:
        hidden = stage(hidden).tanh()
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(head(hidden), y)
    loss.backward()
    optimizer.step()
