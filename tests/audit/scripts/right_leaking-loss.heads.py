"""A body that two heads with their own optimizers train; it uses both gradients, in two orders."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
for by_turns in (False, True):
    body, first, second = nn.Linear(4, 8), nn.Linear(8, 1), nn.Linear(8, 1)
    of_first, of_body, of_second = (torch.optim.Adam(each.parameters()) for each in (first, body, second))
    for _ in range(24):
        for optimizer in (of_first, of_body, of_second):
            optimizer.zero_grad()
        nn.functional.mse_loss(first(body(x).tanh()), y).backward()
        if by_turns:
            of_first.step()
        nn.functional.mse_loss(second(body(x).tanh()), -y).backward()
        if not by_turns:
            of_first.step()
        of_body.step()
        of_second.step()
