"""Batches are drawn in a range(): 13 per epoch in windows of three, one of which is left."""

import torch
from torch import nn

torch.manual_seed(0)
data = torch.randn(200, 4)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
for _epoch in range(5):
    for step in range(13):
        x = data[torch.randint(200, (16,))]
        loss = nn.functional.l1_loss(model(x), x[:, :1]) / 3
        loss.backward()
        if step % 3 == 2:
            optimizer.step()  # here
            optimizer.zero_grad()
