"""An embedding adds up its gradient over four updates at a learning rate of 0; it is then used and cleared."""

import torch
from torch import nn

torch.manual_seed(0)
embedding, head = nn.Embedding(10, 8), nn.Linear(8, 1)
groups = [{"params": embedding.parameters(), "lr": 0.0}, {"params": head.parameters()}]
optimizer = torch.optim.SGD(groups, lr=0.05)
for nth in range(1, 81):
    tokens = torch.randint(10, (32,))
    loss = nn.functional.mse_loss(head(embedding(tokens)), tokens[:, None] / 10.0)
    loss.backward()
    slow_step = nth % 4 == 0
    optimizer.param_groups[0]["lr"] = 0.01 if slow_step else 0.0
    optimizer.step()
    head.zero_grad()
    if slow_step:
        embedding.zero_grad()
