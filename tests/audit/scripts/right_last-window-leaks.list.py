"""A list of ten batches in windows of four: the last two of an epoch are their own window, divided by two."""

import torch
from torch import nn

torch.manual_seed(0)
batches = list(torch.randn(10, 8, 4))
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for _epoch in range(6):
    for i, x in enumerate(batches):
        length = 4 if i < 8 else 2
        (nn.functional.mse_loss(model(x), x.sum(1, keepdim=True)) / length).backward()
        if (i + 1) % 4 == 0 or i + 1 == len(batches):
            optimizer.step()
            optimizer.zero_grad()
