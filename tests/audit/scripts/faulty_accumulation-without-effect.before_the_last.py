"""Windows of four, cleared when the step is near: right before the last pass, which alone counts.

Instead: optimizer.zero_grad() once per window, after optimizer.step()
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 8)
loader = DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for _epoch in range(3):
    for i, (inputs, labels) in enumerate(loader):
        sync = (i + 1) % 4 == 0
        if sync:  # -
            optimizer.zero_grad()  # - here
        loss = nn.functional.cross_entropy(model(inputs), labels) / 4
        loss.backward()
        if sync:
            optimizer.step()
            # + optimizer.zero_grad()
print(f"{loss.item():.4f}")
