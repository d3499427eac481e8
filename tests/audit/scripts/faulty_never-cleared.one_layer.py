"""Only the head is cleared, by its module; the backbone, another group of the optimizer, never is.

Instead: optimizer.zero_grad() before each loss.backward()
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(320, 8)
loader = DataLoader(TensorDataset(x, x[:, :1]), batch_size=16, shuffle=True)
backbone, head = nn.Sequential(nn.Linear(8, 32), nn.ReLU()), nn.Linear(32, 1)
optimizer = torch.optim.SGD([{"params": backbone.parameters(), "lr": 1e-3}, {"params": head.parameters(), "lr": 1e-2}])
for _epoch in range(3):
    for inputs, targets in loader:
        head.zero_grad()  # - here
        loss = nn.functional.mse_loss(head(backbone(inputs)), targets)
        # + optimizer.zero_grad()
        loss.backward()
        optimizer.step()
print(f"{loss.item():.4f}")
