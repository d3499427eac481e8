"""Windows of four with an evaluation inside, and an adversarial attack between epochs."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
evaluation = DataLoader(loader.dataset, batch_size=16)
for _epoch in range(6):
    for nth, (inputs, targets) in enumerate(loader, 1):
        (nn.functional.mse_loss(model(inputs), targets) / 4).backward()
        if nth % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
        if nth % 4 == 1:
            with torch.no_grad():
                sum(model(inputs).sum() for inputs, _ in evaluation)
    inputs, targets = next(iter(evaluation))
    nn.functional.mse_loss(model(inputs.requires_grad_()), targets).backward()
    optimizer.zero_grad()
