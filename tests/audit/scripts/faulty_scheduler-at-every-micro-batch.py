"""The scheduler counts micro-batches.

Instead: scheduler.step() right after optimizer.step(), once per window
"""

import warnings

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore", "Detected call of")  # torch warns once
torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)
for _epoch in range(4):
    for nth, (inputs, targets) in enumerate(loader, 1):
        loss = nn.functional.mse_loss(model(inputs), targets) / 4
        loss.backward()
        if nth % 4 == 0:
            optimizer.step()
            # + scheduler.step()
            optimizer.zero_grad()
        scheduler.step()  # - here
