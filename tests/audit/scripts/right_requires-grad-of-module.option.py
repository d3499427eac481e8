"""A class has an option with the name requires_grad, and another one reads its own attribute in forward()."""

import torch
from torch import nn


class Features(nn.Module):
    def __init__(self, requires_grad=False):
        super().__init__()
        self.requires_grad = requires_grad
        self.layer = nn.Linear(4, 8)

    def forward(self, x):
        return self.layer(x).tanh()


class Switch(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        with torch.set_grad_enabled(getattr(self, "requires_grad", True)):
            return self.layer(self.inner(x))


torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
body = Switch(Features())
body.requires_grad = False
model = nn.Sequential(body, nn.Linear(8, 1))
optimizer = torch.optim.SGD(model[1].parameters(), lr=0.01)
for _ in range(40):
    optimizer.zero_grad()
    nn.functional.mse_loss(model(x), y).backward()
    optimizer.step()
