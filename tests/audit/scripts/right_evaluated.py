"""An evaluation after each epoch, and an average of the weights."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
averaged = torch.optim.swa_utils.AveragedModel(model)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _epoch in range(6):
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()
        averaged.update_parameters(model)
    model.eval()
    with torch.no_grad():
        for inputs, targets in loader:
            nn.functional.mse_loss(averaged(inputs), targets)
