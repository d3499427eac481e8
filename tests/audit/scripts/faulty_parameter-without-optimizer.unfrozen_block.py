"""The last block is unfrozen at the 18th of 40 updates; the optimizer was made for the head.

Instead: pass them to an optimizer, or requires_grad_(False) if they should stay fixed
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3))
        self.head = nn.Linear(4, 1)

    def forward(self, inputs):
        for block in self.blocks:
            inputs = inputs + block(inputs)
        return self.head(inputs)


net = Net()
net.blocks.requires_grad_(False)
optimizer = torch.optim.Adam(net.head.parameters(), lr=0.01)
for nth in range(40):
    if nth == 17:
        net.blocks[-1].requires_grad_(True)
        # + optimizer.add_param_group({"params": list(net.blocks[-1].parameters())})
    loss = nn.functional.mse_loss(net(x), y)
    loss.backward()  # here
    optimizer.step()
    optimizer.zero_grad()
