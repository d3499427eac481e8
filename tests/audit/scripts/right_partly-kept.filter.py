"""A filter amplifies slow gradients: a running mean, which it keeps itself, is added to .grad before the step."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class SlowGradients:
    def __init__(self, model, decay=0.9, weight=2.0):
        self.model, self.decay, self.weight = model, decay, weight
        self.means = {name: torch.zeros_like(p) for name, p in model.named_parameters()}

    def __call__(self):
        for name, p in self.model.named_parameters():
            self.means[name].mul_(self.decay).add_(p.grad, alpha=1 - self.decay)
            p.grad = p.grad + self.weight * self.means[name]


torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=16, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
amplify = SlowGradients(model)
for _epoch in range(8):
    for inputs, targets in loader:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        amplify()
        optimizer.step()
