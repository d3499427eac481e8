"""Accumulation with a shorter last window, divided by its own length."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _epoch in range(4):
    for start in range(0, len(loader), 3):
        window = list(loader)[start : start + 3]
        optimizer.zero_grad()
        for inputs, targets in window:
            (nn.functional.mse_loss(model(inputs), targets) / len(window)).backward()
        optimizer.step()
