"""Windows of four over a list; after each epoch, one more pass gives the norm of a gradient, which is then cleared."""

import torch
from torch import nn


def backward(model, x, over):
    loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True)) / over
    loss.backward()


torch.manual_seed(0)
batches = list(torch.randn(8, 8, 4))
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _epoch in range(8):
    for nth, x in enumerate(batches, 1):
        backward(model, x, 4)
        if nth % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
    backward(model, batches[0], 1)
    print(sum(p.grad.norm() for p in model.parameters()).item())
    optimizer.zero_grad()
