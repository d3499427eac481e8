"""Windows of two with clipping: the loop over the parameter groups steps the whole optimizer for each group.

Instead: one optimizer.step() for each window; a trainer, callback or wrapper may already call it
"""

import torch
from torch import nn

torch.manual_seed(0)
body, head = nn.Sequential(nn.Linear(4, 8), nn.Tanh()), nn.Linear(8, 1)
optimizer = torch.optim.SGD([{"params": body.parameters()}, {"params": head.parameters(), "lr": 0.02}], lr=0.01)
for _ in range(20):
    for x in torch.randn(2, 16, 4):
        (nn.functional.mse_loss(head(body(x)), x.sum(1, keepdim=True)) / 2).backward()
    for group in optimizer.param_groups:
        nn.utils.clip_grad_norm_(group["params"], 1.0)
        optimizer.step()  # - here
    # + optimizer.step()
    optimizer.zero_grad()
