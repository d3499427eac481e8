"""A trainer that clears once when it is created; each update adds up two losses.

Instead: optimizer.zero_grad() after each optimizer.step()
"""

import torch
from torch import nn


class Trainer:
    def __init__(self, model, lr):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        self.model.zero_grad()

    def update(self, x, y):
        nn.functional.mse_loss(self.model(x), y).backward()  # here
        (0.01 * self.model(x).square().mean()).backward()  # here
        self.optimizer.step()  # here
        # + self.optimizer.zero_grad()


torch.manual_seed(0)
x = torch.randn(64, 4)
trainer = Trainer(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)), 0.001)
for _ in range(40):
    trainer.update(x, x.sum(1, keepdim=True))
