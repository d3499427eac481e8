"""The sum of the losses on clean and attacked inputs in one pass; the pass of the attack comes before the clearing."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def fgsm(model, criterion, x, y, eps):
    x = x.clone().requires_grad_(True)
    criterion(model(x), y).backward()
    return torch.clamp(x + eps * x.grad.sign(), -3, 3).detach()


torch.manual_seed(0)
x = torch.randn(256, 6)
loader = DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=32, shuffle=True)
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for _epoch in range(4):
    for inputs, labels in loader:
        attacked = fgsm(model, criterion, inputs, labels, 0.1)
        optimizer.zero_grad()
        loss = criterion(model(inputs), labels) + criterion(model(attacked), labels)
        loss.backward()
        optimizer.step()
