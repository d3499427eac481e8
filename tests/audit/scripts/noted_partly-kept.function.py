"""A function fades the gradients of a recurrent network to seven tenths after every step.

Instead: nothing, if you meant it; the usual way is optimizer.zero_grad() and the optimizer's own momentum= or betas=
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def fade(parameters, share):
    torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], share)


def train(cell, head, loader, epochs):
    parameters = [*cell.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.05)  # -
    # + optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.7)
    for _epoch in range(epochs):
        for sequences, targets in loader:
            _, hidden = cell(sequences)
            nn.functional.mse_loss(head(hidden[-1]), targets).backward()  # here
            optimizer.step()  # here
            fade(parameters, 0.7)  # -
            # + optimizer.zero_grad()


torch.manual_seed(0)
x = torch.randn(96, 5, 3)
data = DataLoader(TensorDataset(x, x.mean(1)[:, :1]), batch_size=16, shuffle=True)
train(nn.GRU(3, 8, batch_first=True), nn.Linear(8, 1), data, 4)
