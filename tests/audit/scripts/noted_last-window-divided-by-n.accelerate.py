"""Accelerate steps at the end of an epoch, after two of four micro-batches, and divides their losses by four.

Instead: a multiple of 4 batches per epoch, because the framework divides by 4
"""

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(80, 4)  # -
# + x = torch.randn(96, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
accelerator = Accelerator(gradient_accumulation_steps=4, cpu=True)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
for _epoch in range(4):
    for inputs, targets in loader:
        with accelerator.accumulate(model):
            accelerator.backward(nn.functional.mse_loss(model(inputs), targets))  # here
            optimizer.step()
            optimizer.zero_grad()
