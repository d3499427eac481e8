"""The loss is multiplied by the scale by hand, or given as the gradient argument of backward()."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
scaler.scale(torch.zeros(()))
for epoch in range(4):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        if epoch % 2:
            loss.backward(torch.tensor(scaler.get_scale()))
        else:
            (loss * scaler.get_scale()).backward()
        scaler.step(optimizer)
        scaler.update()
