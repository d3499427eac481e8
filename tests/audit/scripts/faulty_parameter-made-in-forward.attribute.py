"""The output layer is assigned in forward(), to fit its input, so it is a new one at every pass.

Instead: create layers and parameters once, in __init__(), before the optimizer
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.Tanh())
        self.out = nn.Linear(8, 1)

    def forward(self, inputs):
        hidden = self.body(inputs)
        self.out = nn.Linear(hidden.shape[1], 1)  # -
        return self.out(hidden)


net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for _ in range(40):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(net(x), y)
    loss.backward()  # here
    optimizer.step()
