"""Adversarial training (FGSM) of an MLP on two interleaved spirals.

The network is trained on the perturbed inputs only, as in Madry et al.
"""
import math

import torch
import torch.nn as nn

EPS = 0.1
EPOCHS = 12
BATCH = 50


def spirals(n, noise=0.05):
    t = torch.rand(n) * 2 * math.pi + 0.5
    y = torch.randint(0, 2, (n,))
    sign = 1 - 2 * y.float()
    x = torch.stack([sign * t * t.cos(), sign * t * t.sin()], 1) / 5
    return x + noise * torch.randn_like(x), y


def fgsm(model, loss_fn, x, y, eps):
    x_adv = x.clone().requires_grad_(True)
    loss = loss_fn(model(x_adv), y)
    loss.backward()
    return (x_adv + eps * x_adv.grad.sign()).detach()


def minibatches(x, y, size):
    perm = torch.randperm(len(x))
    for chunk in perm.split(size):
        yield x[chunk], y[chunk]


def accuracy(model, x, y):
    with torch.no_grad():
        return (model(x).argmax(1) == y).float().mean().item()


def train():
    torch.manual_seed(11)
    torch.set_num_threads(1)
    x, y = spirals(800)
    x_test, y_test = spirals(200)
    model = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
    loss_fn = nn.CrossEntropyLoss()
    opt = torch.optim.NAdam(model.parameters(), lr=5e-3)

    for epoch in range(EPOCHS):
        for xb, yb in minibatches(x, y, BATCH):
            opt.zero_grad()
            xb_adv = fgsm(model, loss_fn, xb, yb, EPS)
            loss = loss_fn(model(xb_adv), yb)
            loss.backward()
            opt.step()
        if (epoch + 1) % 4 == 0:
            clean = accuracy(model, x_test, y_test)
            robust = accuracy(model, fgsm(model, loss_fn, x_test, y_test, EPS), y_test)
            print(f"epoch {epoch + 1}: loss {loss.item():.3f} clean {clean:.2f} robust {robust:.2f}")
    return loss.item()


print("final loss", train())
