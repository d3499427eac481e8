"""The norm is logged at every micro-batch, by clipping at a bound that is never reached; no clipping otherwise."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def norm_of(model):
    return nn.utils.clip_grad_norm_(model.parameters(), 1e6).item()


torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
norms = []
for _epoch in range(3):
    for nth, (inputs, targets) in enumerate(loader, 1):
        (nn.functional.mse_loss(model(inputs), targets) / 4).backward()
        norms.append(norm_of(model))
        if nth % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
