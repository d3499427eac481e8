"""A layer is frozen after the first of three short epochs, but zeros in .grad let momentum move it.

Instead: p.grad = None when you freeze p, and zero_grad() with set_to_none=True; or remove p from the optimizer
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(320, 8)
loader = DataLoader(TensorDataset(x, x[:, :1]), batch_size=16, shuffle=True)
backbone, head = nn.Sequential(nn.Linear(8, 32), nn.ReLU()), nn.Linear(32, 1)
model = nn.Sequential(backbone, head)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.01)
for epoch in range(3):
    if epoch == 1:
        backbone.requires_grad_(False)
        # + for p in backbone.parameters():
        # +     p.grad = None
    for inputs, targets in loader:
        optimizer.zero_grad(set_to_none=False)  # -
        # + optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()  # here
print(f"{loss.item():.4f}")
