"""The hidden state enters the next window with its graph, which is retained.

Instead: total += loss.item() or loss.detach(), also for outputs that you keep; hidden.detach() between windows
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
memory = nn.Parameter(torch.zeros(4))
optimizer = torch.optim.SGD([memory], lr=0.01)
hidden = torch.zeros(4)
for nth in range(100):
    optimizer.zero_grad()
    hidden = 0.5 * hidden + memory * x[nth % 64]  # -
    # + hidden = 0.5 * hidden.detach() + memory * x[nth % 64]
    loss = (hidden.sum() - y[nth % 64]).square().mean()
    loss.backward(retain_graph=True)  # here
    with torch.no_grad():
        optimizer.step()
