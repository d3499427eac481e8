"""Two critics with one optimizer and a loss each, in a loop, clipped; batches are drawn by hand."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = 10 * x.sum(1, keepdim=True)
critics = nn.ModuleList(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)) for _ in range(2))
optimizer = torch.optim.Adam(critics.parameters(), lr=0.01)
for _ in range(36):
    drawn = torch.randint(64, (16,))
    optimizer.zero_grad()
    for critic in critics:
        nn.functional.mse_loss(critic(x[drawn]), y[drawn]).backward()
        nn.utils.clip_grad_norm_(critic.parameters(), 1.0)
    optimizer.step()
