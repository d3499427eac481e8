"""zero_grad() is in the outer loop.

Instead: optimizer.zero_grad() before each loss.backward()
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _epoch in range(4):
    optimizer.zero_grad()  # - here
    for inputs, targets in loader:
        loss = nn.functional.mse_loss(model(inputs), targets)
        # + optimizer.zero_grad()
        loss.backward()
        optimizer.step()
