"""A sum that begins with 0, a constant offset, and terms with graphs; the logged sum has none."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
logged = 0.0
for _ in range(40):
    optimizer.zero_grad()
    outputs = model(x)
    terms = [nn.functional.mse_loss(outputs, y), 0.1 * nn.functional.smooth_l1_loss(outputs, y)]
    loss = sum(terms) + 1e-3
    loss.backward()
    optimizer.step()
    logged += loss.item() + outputs.detach().mean().item()
