"""The model is put in eval mode for the first validation, and never trains in training mode again.

Instead: model.train() before training, and again after each evaluation
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(96, 4)
y = x.sum(1, keepdim=True)
loader = DataLoader(TensorDataset(x[:64], y[:64]), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)


def validate():
    model.eval()
    with torch.no_grad():
        return nn.functional.mse_loss(model(x[64:]), y[64:]).item()


model.train()  # -
for _epoch in range(5):
    # + model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()  # here
    validate()
