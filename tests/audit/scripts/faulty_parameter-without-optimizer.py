"""An encoder and a decoder, but an optimizer for only one of them.

Instead: pass them to an optimizer, or requires_grad_(False) if they should stay fixed
"""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
encoder, decoder = nn.Linear(4, 8), nn.Linear(8, 1)
optimizer = torch.optim.SGD(encoder.parameters(), lr=0.01)  # -
# + optimizer = torch.optim.SGD([*encoder.parameters(), *decoder.parameters()], lr=0.01)
for _ in range(24):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(decoder(encoder(x).tanh()), y)
    loss.backward()  # here
    optimizer.step()
