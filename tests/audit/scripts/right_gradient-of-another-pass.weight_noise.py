"""Every pass is at weights with new noise, which is removed again; the gradients of both are added."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.005)
for _ in range(40):
    for _ in range(2):
        noise = [0.01 * torch.randn_like(p) for p in model.parameters()]
        for p, each in zip(model.parameters(), noise, strict=True):
            p.data += each
        nn.functional.mse_loss(model(x), y).backward()
        for p, each in zip(model.parameters(), noise, strict=True):
            p.data -= each
    optimizer.step()
    optimizer.zero_grad()
