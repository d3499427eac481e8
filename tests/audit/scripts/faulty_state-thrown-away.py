"""A new Adam is made at the beginning of every epoch.

Instead: one optimizer for the whole training; change the learning rate in optimizer.param_groups
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
loader = DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
# + optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _epoch in range(6):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)  # -
    for inputs, targets in loader:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()  # here
