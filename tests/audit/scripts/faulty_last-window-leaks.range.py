"""Batches are drawn in a range(): 13 per epoch in windows of three, one of which is left.

Instead: optimizer.step() at the last batch of an epoch too, as with if (i + 1) % 3 == 0 or i + 1 == len(batches);
divide the losses of that window by its own length
"""

import torch
from torch import nn

torch.manual_seed(0)
data = torch.randn(200, 4)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
for _epoch in range(5):
    for step in range(13):
        x = data[torch.randint(200, (16,))]
        loss = nn.functional.l1_loss(model(x), x[:, :1]) / 3  # -
        # + loss = nn.functional.l1_loss(model(x), x[:, :1]) / (3 if step < 12 else 1)
        loss.backward()
        # + if step % 3 == 2 or step == 12:
        if step % 3 == 2:  # -
            optimizer.step()  # here
            optimizer.zero_grad()
