"""The features of an encoder are detached, so of three layers only the head gets gradient.

Instead: look for detach(), .data, .item() or no_grad() before the loss, and for reentrant checkpoints whose inputs
require no gradient; requires_grad_(False) for layers that should stay fixed
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh())
        self.head = nn.Linear(8, 1)

    def forward(self, inputs):
        features = torch.tensor(self.encoder(inputs).tolist())  # -
        # + features = self.encoder(inputs)
        return self.head(features)


net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
for _ in range(30):
    loss = nn.functional.mse_loss(net(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()  # here
