"""An optimizer is created in every step; the model is cleared, or the optimizer after its step."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def train_step(model, inputs, targets):
    model.zero_grad()
    nn.functional.mse_loss(model(inputs), targets).backward()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    optimizer.step()


torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
model, other = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)), nn.Linear(4, 1)
for _epoch in range(4):
    for inputs, targets in loader:
        train_step(model, inputs, targets)
        optimizer = torch.optim.Adam(other.parameters(), lr=1e-3)
        nn.functional.mse_loss(other(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
