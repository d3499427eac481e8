"""An optimizer is created in every step, and nothing is cleared.

Instead: optimizer.zero_grad() after each optimizer.step()
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def train_step(model, inputs, targets, lr):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    loss = nn.functional.mse_loss(model(inputs), targets)
    loss.backward()  # here
    optimizer.step()  # here
    # + optimizer.zero_grad()
    return loss.item()


torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
for _epoch in range(4):
    for batch in loader:
        train_step(model, *batch, 1e-3)
