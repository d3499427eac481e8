"""The network grows after twenty updates: a wider one replaces it, and the optimizer still holds the first.

Instead: create the optimizer after the model has all its parameters, again if you replace the model, or
add_param_group()
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)


class Growing:
    def __init__(self):
        self.grow(8)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=0.01)

    def grow(self, width):
        self.net = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 1))

    def train(self, updates):
        for _ in range(updates):
            self.optimizer.zero_grad()
            loss = nn.functional.mse_loss(self.net(x), y)
            loss.backward()  # here
            self.optimizer.step()


model = Growing()
model.train(20)
model.grow(32)
# + model.optimizer = torch.optim.Adam(model.net.parameters(), lr=0.01)
model.train(30)
