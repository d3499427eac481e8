"""Adversarial training: the backward pass of the attack leaves its gradient in the step.

Instead: torch.autograd.grad(loss, inputs) instead of that pass; or optimizer.zero_grad() after it, if the loop
accumulates nothing
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def fgsm(model, x, y, eps):
    x = x.clone().requires_grad_(True)
    nn.functional.cross_entropy(model(x), y).backward()  # here
    return (x + eps * x.grad.sign()).detach()


torch.manual_seed(0)
x = torch.randn(256, 10)
loader = DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), batch_size=32, shuffle=True)
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for _epoch in range(4):
    for inputs, labels in loader:
        optimizer.zero_grad()
        adversarial = fgsm(model, inputs, labels, 0.1)
        # + optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(adversarial), labels)
        loss.backward()
        optimizer.step()
print(f"{loss.item():.4f}")
