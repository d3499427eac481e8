"""Four micro-batches, with zero_grad() before each.

Instead: optimizer.zero_grad() once per window, after optimizer.step()
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _epoch in range(6):
    for nth, (inputs, targets) in enumerate(loader, 1):
        optimizer.zero_grad()  # - here
        loss = nn.functional.mse_loss(model(inputs), targets) / 4
        loss.backward()
        if nth % 4 == 0:
            optimizer.step()
            # + optimizer.zero_grad()
