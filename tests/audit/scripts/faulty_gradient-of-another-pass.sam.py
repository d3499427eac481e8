"""Sharpness-aware minimization that forgets to clear between its two passes.

Instead: optimizer.zero_grad() between the two passes
"""

import torch
from torch import nn


class Sharpness:
    def __init__(self, optimizer, rho=0.05):
        self.optimizer, self.rho = optimizer, rho
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.moves = []

    @torch.no_grad()
    def ascend(self):
        norm = torch.stack([p.grad.norm() for p in self.parameters]).norm()
        self.moves = [self.rho / norm * p.grad for p in self.parameters]
        for p, move in zip(self.parameters, self.moves, strict=True):
            p.add_(move)

    @torch.no_grad()
    def descend(self):
        for p, move in zip(self.parameters, self.moves, strict=True):
            p.sub_(move)
        self.optimizer.step()
        self.optimizer.zero_grad()


torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
sharpness = Sharpness(torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9))
for _ in range(40):
    nn.functional.mse_loss(model(x), y).backward()  # here
    sharpness.ascend()
    # + sharpness.optimizer.zero_grad()
    nn.functional.mse_loss(model(x), y).backward()  # here
    sharpness.descend()
