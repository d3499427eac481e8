"""A callback steps too, so every backward pass has two steps.

Instead: one optimizer.step() for each window; a trainer, callback or wrapper may already call it
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Callback:
    def __init__(self, optimizer):
        self.optimizer = optimizer

    def after_batch(self):
        self.optimizer.step()  # here


torch.manual_seed(0)
x = torch.randn(320, 8)
loader = DataLoader(TensorDataset(x, x[:, :1]), batch_size=16, shuffle=True)
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
callbacks = [Callback(optimizer)]
for _epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()  # - here
        for callback in callbacks:
            callback.after_batch()
print(f"{loss.item():.4f}")
