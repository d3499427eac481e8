"""All layers but the last are fixed by zeros in their gradients; one unit is dead."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
layers = [each for _ in range(5) for each in (nn.Linear(4, 4), nn.Tanh())]
model = nn.Sequential(*layers, nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
dead = nn.Parameter(torch.full((4,), -100.0))
of_dead = torch.optim.SGD([dead], lr=0.01)
for _ in range(24):
    optimizer.zero_grad()
    of_dead.zero_grad()
    (nn.functional.mse_loss(model(x), y) + (x + dead).relu().mean()).backward()
    for p in model[:-1].parameters():
        p.grad.zero_()
    optimizer.step()
    of_dead.step()
