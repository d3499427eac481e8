"""The sum of the risks of three domains: each has a DataLoader and a pass, in a loop, and the sum is clipped."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
loaders = []
for shift in (0.0, 0.5, 1.0):
    x = torch.randn(320, 8) + shift
    loaders.append(DataLoader(TensorDataset(x, (x[:, 0] > shift).long()), batch_size=16, shuffle=True))
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for _epoch in range(3):
    for batches in zip(*loaders, strict=False):
        optimizer.zero_grad()
        for inputs, labels in batches:
            loss = nn.functional.cross_entropy(model(inputs), labels)
            loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
print(f"{loss.item():.4f}")
