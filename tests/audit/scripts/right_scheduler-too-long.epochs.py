"""A cosine over epochs steps once an epoch; a checkpoint is loaded in the middle, with the scheduler's state."""

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR
from torch.utils.data import DataLoader, TensorDataset


def train(model, loader, optimizer, schedulers, epochs):
    for _epoch in range(epochs):
        for inputs, targets in loader:
            optimizer.zero_grad()
            nn.functional.mse_loss(model(inputs), targets).backward()
            optimizer.step()
        for each in schedulers:
            each.step()


torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
loader = DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
schedulers = [CosineAnnealingLR(optimizer, T_max=6), StepLR(optimizer, step_size=30)]
train(model, loader, optimizer, schedulers, 4)
state = schedulers[0].state_dict()
schedulers = [CosineAnnealingLR(optimizer, T_max=6)]
schedulers[0].load_state_dict(state)
train(model, loader, optimizer, schedulers, 2)
