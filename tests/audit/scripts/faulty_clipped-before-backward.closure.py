"""A closure, as some frameworks use it: the forward part clips, before clearing and backward.

Instead: clip in the closure, after loss.backward()
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(320, 8)
loader = DataLoader(TensorDataset(x, 10 * x[:, :1]), batch_size=16, shuffle=True)
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)


def training_step(batch):
    inputs, targets = batch
    loss = nn.functional.mse_loss(model(inputs), targets)
    nn.utils.clip_grad_norm_(model.parameters(), 0.5)  # - here
    return loss


for _epoch in range(3):
    for batch in loader:

        def closure(batch=batch):
            loss = training_step(batch)
            optimizer.zero_grad()
            loss.backward()
            # + nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            return loss

        loss = optimizer.step(closure)
