"""Adversarial training with three attack steps that nothing clears; an attack on test data comes after every epoch.

Instead: torch.autograd.grad(loss, inputs) instead of that pass; or optimizer.zero_grad() after it, if the loop
accumulates nothing
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Attack:
    def __init__(self, model, criterion, eps=0.1, steps=3):
        self.model, self.criterion, self.eps, self.steps = model, criterion, eps, steps

    def __call__(self, x, y):
        delta = torch.zeros_like(x, requires_grad=True)
        for _ in range(self.steps):
            loss = self.criterion(self.model(x + delta), y)
            loss.backward()  # - here
            # + (gradient,) = torch.autograd.grad(loss, delta)
            with torch.no_grad():
                delta += self.eps / self.steps * delta.grad.sign()  # -
                delta.grad.zero_()  # -
                # + delta += self.eps / self.steps * gradient.sign()
        return (x + delta).detach()


torch.manual_seed(0)
x = torch.randn(320, 6)
y = (x[:, :2].prod(1) > 0).long()
loader = DataLoader(TensorDataset(x[:256], y[:256]), batch_size=32, shuffle=True)
model = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 2))
criterion = nn.CrossEntropyLoss()
attack = Attack(model, criterion)
optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
for _epoch in range(6):
    for inputs, labels in loader:
        optimizer.zero_grad()
        criterion(model(attack(inputs, labels)), labels).backward()
        optimizer.step()
    robust = (model(attack(x[256:], y[256:])).argmax(1) == y[256:]).float().mean().item()
