"""zero_grad() stands before the loop, not in it.

Instead: optimizer.zero_grad() before each loss.backward()
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def train(model, loader, optimizer, criterion, epochs):
    model.train()
    optimizer.zero_grad()  # -
    for _epoch in range(epochs):
        for x, y in loader:
            loss = criterion(model(x), y)
            # + optimizer.zero_grad()
            loss.backward()  # here
            optimizer.step()  # here
    return loss.item()


torch.manual_seed(0)
x = torch.randn(320, 8)
loader = DataLoader(TensorDataset(x, x[:, :1]), batch_size=16, shuffle=True)
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
print(f"{train(model, loader, torch.optim.Adam(model.parameters(), lr=1e-3), nn.MSELoss(), 4):.4f}")
