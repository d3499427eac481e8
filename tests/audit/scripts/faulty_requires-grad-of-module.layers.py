"""A network freezes its first layers in a loop over modules.

Instead: module.requires_grad_(False), which sets all its parameters
"""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, freeze):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 1)])
        for layer in list(self.layers)[:freeze]:
            layer.requires_grad = False  # -
            # + layer.requires_grad_(False)

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)


def train(model, x, y, updates):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(updates):
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


torch.manual_seed(0)
x = torch.randn(64, 4)
model = Net(freeze=2)
train(model, x, x.sum(1, keepdim=True), 40)
