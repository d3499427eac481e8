"""Windows of one, two and four micro-batches."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for epoch in range(6):
    every = (1, 2, 4)[epoch // 2]
    for nth, (inputs, targets) in enumerate(loader, 1):
        (nn.functional.mse_loss(model(inputs), targets) / every).backward()
        if nth % every == 0:
            optimizer.step()
            optimizer.zero_grad()
