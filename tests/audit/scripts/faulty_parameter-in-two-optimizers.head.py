"""The head has its own optimizer with a higher learning rate, but the other optimizer holds the whole model.

Instead: leave them out of the larger optimizer, or requires_grad_(False) while it trains the others
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.Tanh())
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.body(x))


def optimizers_of(net):
    return torch.optim.AdamW(net.parameters(), lr=1e-3), torch.optim.AdamW(net.head.parameters(), lr=1e-2)  # -
    # + return torch.optim.AdamW(net.body.parameters(), lr=1e-3), torch.optim.AdamW(net.head.parameters(), lr=1e-2)


torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
net = Net()
slow, fast = optimizers_of(net)
for _epoch in range(4):
    for inputs, targets in loader:
        net.zero_grad()
        nn.functional.mse_loss(net(inputs), targets).backward()
        slow.step()  # here
        fast.step()  # here
