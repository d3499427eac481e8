"""Only a head is trained, although its body requires gradient; a temperature belongs to no model.

Instead: pass them to an optimizer, or requires_grad_(False) if they should stay fixed
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
# + model[0].requires_grad_(False)
temperature = torch.zeros(1, requires_grad=True)
optimizer = torch.optim.Adam(model[2].parameters(), lr=0.01)
of_temperature = torch.optim.Adam([temperature], lr=0.01)
for nth in range(24):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()  # here
    optimizer.step()
    if nth % 4 == 3:
        of_temperature.zero_grad()
        (temperature.exp() * (loss.detach() - 0.1)).sum().backward()
        of_temperature.step()
