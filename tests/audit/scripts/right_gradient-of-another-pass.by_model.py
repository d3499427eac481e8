"""Three attack steps in a function, which calls model.zero_grad() at its end; test data is also attacked."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def attack(model, x, y, eps=0.1, steps=3):
    delta = torch.zeros_like(x, requires_grad=True)
    for _ in range(steps):
        nn.functional.cross_entropy(model(x + delta), y).backward()
        delta.data += eps / steps * delta.grad.sign()
        delta.grad = None
    model.zero_grad()
    return (x + delta).detach()


def train(model, loader, optimizer):
    for inputs, labels in loader:
        attacked = attack(model, inputs, labels)
        nn.functional.cross_entropy(model(attacked), labels).backward()
        optimizer.step()
        optimizer.zero_grad()


torch.manual_seed(0)
x = torch.randn(320, 6)
y = (x.sum(1) > 0).long()
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
loader = DataLoader(TensorDataset(x[:256], y[:256]), batch_size=32, shuffle=True)
for _epoch in range(4):
    train(model, loader, optimizer)
    robust = (model(attack(model, x[256:], y[256:])).argmax(1) == y[256:]).float().mean()
