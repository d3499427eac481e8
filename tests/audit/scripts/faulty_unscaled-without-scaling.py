"""GradScaler: what scale() returns is dropped, and the unscaled loss is used.

Instead: scaler.scale(loss).backward(), with the tensor that scale() returns
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
scaler = torch.amp.GradScaler("cpu")
for _epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.mse_loss(model(inputs).float(), targets)
        scaler.scale(loss)  # -
        loss.backward()  # - here
        # + scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
