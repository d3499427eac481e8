"""Parts are clipped one by one: one has no parameters, and one no gradient until its optimizer starts."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
parts = nn.ModuleDict({"body": nn.Linear(4, 8), "act": nn.Tanh(), "head": nn.Linear(8, 1), "extra": nn.Linear(8, 1)})
optimizers = [torch.optim.SGD(parts[name].parameters(), lr=0.01) for name in ("body", "head", "extra")]
for epoch in range(4):
    for inputs, targets in loader:
        features = parts["act"](parts["body"](inputs))
        out = parts["head"](features) if epoch < 3 else parts["extra"](features)
        for each in optimizers:
            each.zero_grad()
        nn.functional.mse_loss(out, targets).backward()
        for part in parts.values():
            nn.utils.clip_grad_norm_(list(part.parameters()), 0.1)
        for each in optimizers[:2] if epoch < 3 else optimizers[::2]:
            each.step()
