"""One update per epoch, along the mean gradient of all its batches: cleared once an epoch, and stepped once."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def epoch(model, optimizer, loader):
    optimizer.zero_grad()
    for inputs, targets in loader:
        (nn.functional.mse_loss(model(inputs), targets) / len(loader)).backward()
    optimizer.step()


torch.manual_seed(0)
x = torch.randn(64, 4)
data = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
for _ in range(20):
    epoch(net, sgd, data)
