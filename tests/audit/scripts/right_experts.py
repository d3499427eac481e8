"""A mixture of experts: some get no gradient or zeros in a step."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
experts = nn.ModuleList(nn.Linear(4, 1) for _ in range(3))
optimizer = torch.optim.Adam(experts.parameters(), lr=0.01)
for nth in range(36):
    optimizer.zero_grad(set_to_none=nth % 2 == 0)
    loss = sum(
        (experts[which](part) - part.sum(1, keepdim=True)).square().mean()
        for which, part in zip(torch.randperm(3)[:2].tolist(), x.split(32), strict=True)
    )
    loss.backward()
    optimizer.step()
