"""Ten micro-batches in windows of four, four and two; losses are weighted by their share of samples."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(80, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _epoch in range(4):
    batches = list(loader)
    for start in range(0, len(batches), 4):
        window = batches[start : start + 4]
        samples = sum(len(inputs) for inputs, _ in window)
        for inputs, targets in window:
            (nn.functional.mse_loss(model(inputs), targets, reduction="sum") / samples).backward()
        optimizer.step()
        optimizer.zero_grad()
