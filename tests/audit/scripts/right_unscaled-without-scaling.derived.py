"""Scaled losses in a list, added up and halved; a second scaler is disabled."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
other = nn.Linear(4, 1)
second = torch.optim.SGD(other.parameters(), lr=0.01)
scaler, disabled = torch.amp.GradScaler("cpu"), torch.amp.GradScaler("cpu", enabled=False)
for _epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        losses = [nn.functional.mse_loss(model(part * inputs), part * targets) for part in (1, -1)]
        (sum(scaler.scale(losses)) / 2).backward()
        scaler.step(optimizer)
        scaler.update()
        second.zero_grad()
        disabled.scale(nn.functional.mse_loss(other(inputs), targets))
        nn.functional.mse_loss(other(inputs), targets).backward()
        disabled.step(second)
        disabled.update()
