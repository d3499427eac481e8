"""Layers in a plain list, which parameters() skips.

Instead: nn.ModuleList, nn.ModuleDict or nn.ParameterList
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(4, 8), nn.Linear(8, 8)]  # -
        # + self.layers = nn.ModuleList([nn.Linear(4, 8), nn.Linear(8, 8)])
        self.last = nn.Linear(8, 1)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).tanh()
        return self.last(x)


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(24):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()  # here
    optimizer.step()
