"""The first window of the training closes after one micro-batch; the data is a list.

Instead: if (i + 1) % 4 == 0, counting i from 0
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
batches, nth = list(loader), 0
for _epoch in range(4):
    for inputs, targets in batches:
        loss = nn.functional.mse_loss(model(inputs), targets) / 4
        loss.backward()
        # + if (nth + 1) % 4 == 0:
        if nth % 4 == 0:  # -
            optimizer.step()  # here
            optimizer.zero_grad()
        nth += 1
