"""A new perturbation for each batch follows the sign of its own gradient; the model trains on it."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


class Perturbation(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.delta = nn.Parameter(torch.zeros_like(inputs))

    def forward(self, inputs):
        return inputs + self.delta


optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(40):
    perturb = Perturbation(x)
    for _ in range(2):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(perturb(x)), y)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            perturb.delta += 0.1 * perturb.delta.grad.sign()
            perturb.delta.grad = None
