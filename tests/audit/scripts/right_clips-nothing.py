"""Encoder and decoder are clipped on their own lines; the encoder is frozen."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
encoder, decoder = nn.Sequential(nn.Linear(4, 8), nn.Tanh()), nn.Linear(8, 1)
encoder.requires_grad_(False)
optimizer = torch.optim.SGD([*encoder.parameters(), *decoder.parameters()], lr=0.01)
for _epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        nn.functional.mse_loss(decoder(encoder(inputs)), targets).backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 0.1)
        nn.utils.clip_grad_norm_(decoder.parameters(), 0.1)
        optimizer.step()
