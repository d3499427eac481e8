"""Windows of four over a list; a window whose gradient is too large is cleared without an update."""

import torch
from torch import nn

torch.manual_seed(0)
batches = [(x, x.sum(1, keepdim=True)) for x in torch.randn(8, 8, 4)]
for nth in (2, 9, 14, 30):
    batches.append((batches[nth % 8][0] * 20, batches[nth % 8][1]))
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _epoch in range(10):
    order = torch.randperm(len(batches)).tolist()
    for nth, at in enumerate(order, 1):
        inputs, targets = batches[at]
        (nn.functional.mse_loss(model(inputs), targets) / 4).backward()
        if nth % 4:
            continue
        if max(p.grad.abs().max().item() for p in model.parameters()) < 1.0:
            optimizer.step()
        optimizer.zero_grad()
