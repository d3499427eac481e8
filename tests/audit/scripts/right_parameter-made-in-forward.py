"""A layer is made in the first forward() and kept; the optimizer is created after that pass."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.Tanh())
        self.out = None

    def forward(self, inputs):
        hidden = self.body(inputs)
        if self.out is None:
            self.out = nn.Linear(hidden.shape[1], 1)
        return self.out(hidden)


net = Net()
net(x)
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for _ in range(40):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(net(x), y)
    loss.backward()
    optimizer.step()
