"""Windows of two, cleared only when an epoch begins; a function trains an epoch.

Instead: optimizer.zero_grad() after each optimizer.step()
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def train_epoch(model, optimizer, loader):
    optimizer.zero_grad()  # here
    for i, (inputs, targets) in enumerate(loader):
        loss = nn.functional.mse_loss(model(inputs), targets) / 2
        loss.backward()
        if i % 2 == 1:
            optimizer.step()
            # + optimizer.zero_grad()


torch.manual_seed(0)
x = torch.randn(96, 4)
data = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
adam = torch.optim.Adam(net.parameters(), lr=1e-3)
for _ in range(4):
    train_epoch(net, adam, data)
