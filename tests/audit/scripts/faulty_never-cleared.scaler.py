"""Never cleared under a GradScaler, whose unscale_() also divides what was kept.

Instead: optimizer.zero_grad() before each loss.backward()
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=10**6)
for _epoch in range(3):
    for inputs, targets in loader:
        loss = nn.functional.mse_loss(model(inputs), targets)
        # + optimizer.zero_grad()
        scaler.scale(loss).backward()  # here
        scaler.step(optimizer)  # here
        scaler.update()
