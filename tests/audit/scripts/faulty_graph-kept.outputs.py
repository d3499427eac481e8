"""All outputs of a short training are collected with their graphs.

Instead: total += loss.item() or loss.detach(), also for outputs that you keep; hidden.detach() between windows
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
history = {"loss": [], "outputs": []}
for _ in range(24):
    outputs = model(x)
    loss = nn.functional.mse_loss(outputs, y)
    loss.backward()  # here
    optimizer.step()
    optimizer.zero_grad()
    history["loss"].append(loss.item())
    history["outputs"].append(outputs)  # -
    # + history["outputs"].append(outputs.detach())
