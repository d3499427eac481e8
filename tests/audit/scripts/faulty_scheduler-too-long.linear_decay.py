"""A linear decay, as Transformers makes it, gets the number of updates, but steps once an epoch.

Instead: scheduler.step() after each optimizer.step(), or the number of its own steps, such as epochs
"""

from functools import partial

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def linear_decay(step, *, num_training_steps):
    return max(0.0, 1 - step / num_training_steps)


torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
loader = DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
decay = partial(linear_decay, num_training_steps=5 * len(loader))  # -
# + decay = partial(linear_decay, num_training_steps=5)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, decay)
for _epoch in range(5):
    for inputs, targets in loader:
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    scheduler.step()  # here
