"""A function makes SGD with momentum for each learning rate of a decay, every four updates.

Instead: one optimizer for the whole training; change the learning rate in optimizer.param_groups
"""

import torch
from torch import nn


def train(model, x, y, lr, updates=4):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)  # -
    # + optimizer.param_groups[0]["lr"] = lr
    for _ in range(updates):
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()  # here
    return loss.item()


torch.manual_seed(0)
x = torch.randn(64, 4)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
# + optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
losses = [train(model, x, x.sum(1, keepdim=True), 0.05 * 0.9**nth) for nth in range(12)]
