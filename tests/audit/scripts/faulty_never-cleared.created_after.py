"""An optimizer is created after every backward pass, with a smaller learning rate; nothing is cleared.

Instead: optimizer.zero_grad() after each optimizer.step()
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def update(model, lr):
    torch.optim.Adam(model.parameters(), lr=lr).step()  # - here
    # + optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    # + optimizer.step()
    # + optimizer.zero_grad()


lr = 1e-3
for _epoch in range(4):
    for inputs, targets in loader:
        nn.functional.mse_loss(model(inputs), targets).backward()  # here
        update(model, lr)
        lr *= 0.99
