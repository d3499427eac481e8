"""The loop calls step() of a wrapper after every micro-batch, which steps the scheduler once in four."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class PerWindow:
    def __init__(self, inner, every):
        self.inner, self.every, self.calls = inner, every, 0

    def step(self):
        self.calls += 1
        if self.calls % self.every == 0:
            self.inner.step()


torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
scheduler = PerWindow(torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8), 4)
for _epoch in range(4):
    for nth, (inputs, targets) in enumerate(loader, 1):
        (nn.functional.mse_loss(model(inputs), targets) / 4).backward()
        if nth % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
        scheduler.step()
