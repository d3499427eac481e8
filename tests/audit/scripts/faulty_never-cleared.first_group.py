"""Windows of two; after a step, only the parameters of the first group are cleared, in place.

Instead: optimizer.zero_grad() after each optimizer.step()
"""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8))
        self.decoder = nn.Linear(8, 4)

    def forward(self, x):
        return self.decoder(self.encoder(x))


def clear(optimizer):
    for p in optimizer.param_groups[0]["params"]:
        if p.grad is not None:
            p.grad.zero_()


torch.manual_seed(0)
net = Net()
groups = [{"params": net.encoder.parameters()}, {"params": net.decoder.parameters(), "lr": 1e-4}]
optimizer = torch.optim.AdamW(groups, lr=1e-3)
for _ in range(60):
    for x in torch.randn(2, 16, 4):
        loss = nn.functional.mse_loss(net(x), x) / 2
        loss.backward()  # here
    optimizer.step()  # here
    # + optimizer.zero_grad()
    clear(optimizer)  # -
