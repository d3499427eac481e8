"""Evaluations in eval mode between epochs, each followed by train(); a teacher stays in eval mode."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(96, 4)
y = x.sum(1, keepdim=True)
loader = DataLoader(TensorDataset(x[:64], y[:64]), batch_size=8, shuffle=True)
teacher = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1)).eval()
model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _epoch in range(5):
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        with torch.no_grad():
            soft = teacher(inputs)
        outputs = model(inputs)
        (nn.functional.mse_loss(outputs, targets) + 0.1 * nn.functional.mse_loss(outputs, soft)).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        model(x[64:])
