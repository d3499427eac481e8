"""Adversarial training: one function takes all passes; those of the attack are cleared before the last."""

import torch
from torch import nn


def gradients(model, optimizer, x, y):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    return loss.item()


torch.manual_seed(0)
x = torch.randn(64, 6)
y = (x.sum(1) > 0).long()
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for _ in range(40):
    attacked = x.clone()
    for _ in range(3):
        attacked.requires_grad_(True)
        gradients(model, optimizer, attacked, y)
        attacked = (attacked + 0.02 * attacked.grad.sign()).detach()
    gradients(model, optimizer, attacked, y)
    optimizer.step()
