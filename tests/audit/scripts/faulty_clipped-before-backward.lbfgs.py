"""LBFGS, clipped before its step: the closure clears and computes the gradient again.

Instead: clip in the closure, after loss.backward()
"""

import torch
from torch import nn


class Fit:
    def __init__(self, model, x, y):
        self.model, self.x, self.y = model, x, y
        self.optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=1)

    def closure(self):
        self.optimizer.zero_grad()
        loss = nn.functional.mse_loss(self.model(self.x), self.y)
        loss.backward()
        # + nn.utils.clip_grad_norm_(self.model.parameters(), 0.01)
        return loss

    def run(self, steps):
        for _ in range(steps):
            nn.utils.clip_grad_norm_(self.model.parameters(), 0.01)  # - here
            self.optimizer.step(self.closure)


torch.manual_seed(0)
x = torch.randn(64, 4)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
Fit(model, x, 5 * x.sum(1, keepdim=True)).run(20)
