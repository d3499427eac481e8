"""Gradients by torch.autograd.grad, assigned to .grad; also for the input and an adversarial attack."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
guide = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(24):
    inputs = x.clone().requires_grad_()
    loss = nn.functional.mse_loss(model(inputs), y)
    (of_input,) = torch.autograd.grad(loss, inputs, create_graph=True)
    total = loss + 0.1 * of_input.square().sum()
    grads = torch.autograd.grad(total, list(model.parameters()), allow_unused=True)
    for p, grad in zip(model.parameters(), grads, strict=True):
        p.grad = grad
    optimizer.step()
    attacked = x.clone().requires_grad_()
    guide(attacked).sum().backward()
