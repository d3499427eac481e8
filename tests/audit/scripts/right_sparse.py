"""A sparse embedding, with a second optimizer for the rest."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
table = nn.Embedding(50, 4, sparse=True)
of_table = torch.optim.SparseAdam(table.parameters(), lr=0.01)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for nth in range(24):
    of_table.zero_grad()
    optimizer.zero_grad()
    ids = torch.arange(nth, nth + 8)
    nn.functional.mse_loss(model(table(ids)), ids[:, None] / 50).backward()
    of_table.step()
    optimizer.step()
