"""Four batches drawn by hand, summed and clipped: they look like four losses of one batch.

Instead: (loss / 4).backward(), if these are micro-batches
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(36):
    optimizer.zero_grad()
    for _part in range(4):
        drawn = torch.randint(64, (16,))
        nn.functional.mse_loss(model(x[drawn]), y[drawn]).backward()  # - here
        # + (nn.functional.mse_loss(model(x[drawn]), y[drawn]) / 4).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
