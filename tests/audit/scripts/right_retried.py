"""A failed step is retried."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


class Fails(torch.optim.SGD):
    calls = 0

    def step(self, closure=None):
        self.calls += 1
        if self.calls % 5 == 0:
            raise RuntimeError
        return super().step(closure)


optimizer = Fails(model.parameters(), lr=0.01)
for _ in range(24):
    optimizer.zero_grad()
    nn.functional.mse_loss(model(x), y).backward()
    try:
        optimizer.step()
    except RuntimeError:
        optimizer.step()
