"""torch.func: gradients as values, then assigned to .grad for an optimizer."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
weights = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
optimizer = torch.optim.SGD(weights.values(), lr=0.01)


def loss_of(given):
    return nn.functional.mse_loss(torch.func.functional_call(model, given, x), y)


for _ in range(24):
    grads = torch.func.grad(loss_of)(weights)
    for name, p in weights.items():
        p.grad = grads[name]
    optimizer.step()
