"""The losses of thirty updates are added up with their graphs, in a function.

Instead: total += loss.item() or loss.detach(), also for outputs that you keep; hidden.detach() between windows
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)


def train(model, updates):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    total = 0.0
    for _ in range(updates):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        total += loss  # -
        # + total += loss.detach()
        loss.backward()  # here
        optimizer.step()
    return total.item() / updates


mean = train(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)), 30)
