"""One layer is updated by hand, by a new Parameter each time; an optimizer trains the other."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model[0].parameters(), lr=0.01)
for _ in range(40):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
    for name, p in list(model[2].named_parameters()):
        setattr(model[2], name, nn.Parameter(p.detach() - 0.01 * p.grad))
