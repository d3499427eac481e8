"""Two layers in the optimizer, one added later, a parameter moved by hand, and input gradients."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
x.requires_grad_()
encoder, middle, decoder = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 1)
scale = nn.Parameter(torch.ones(1))
optimizer = torch.optim.SGD([*encoder.parameters(), *decoder.parameters()], lr=0.01)
for nth in range(60):
    if nth == 30:
        optimizer.add_param_group({"params": middle.parameters()})
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(scale * decoder(middle(encoder(x).tanh()).tanh()), y)
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        scale -= 0.01 * scale.grad
        scale.grad = None
