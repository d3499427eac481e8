"""Ten micro-batches in windows of four: the last two form a window, but are divided by four.

Instead: divide each loss by the number of micro-batches in its own window
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(80, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _epoch in range(4):
    for nth, (inputs, targets) in enumerate(loader, 1):
        loss = nn.functional.mse_loss(model(inputs), targets) / 4  # -
        # + loss = nn.functional.mse_loss(model(inputs), targets) / (4 if nth <= 8 else 2)
        loss.backward()  # here
        if nth % 4 == 0 or nth == len(loader):
            optimizer.step()
            optimizer.zero_grad()
