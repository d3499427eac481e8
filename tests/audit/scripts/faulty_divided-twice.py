"""Four micro-batches: both the criterion and the loop divide by four.

Instead: divide by 4 once; a framework that accumulates already divides
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)


def criterion(outputs, targets):
    return nn.functional.mse_loss(outputs, targets) / 4


for _epoch in range(4):
    for nth, (inputs, targets) in enumerate(loader, 1):
        loss = criterion(model(inputs), targets) / 4  # -
        # + loss = criterion(model(inputs), targets)
        loss.backward()  # here
        if nth % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
