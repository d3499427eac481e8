"""A list of ten batches in windows of four: each epoch leaves two, so the lengths are 4, 4, 6, 4, 6 and so on.

Instead: optimizer.step() at the last batch of an epoch too, as with if (i + 1) % 4 == 0 or i + 1 == len(batches);
divide the losses of that window by its own length
"""

import torch
from torch import nn


def train_one_epoch(model, optimizer, batches, accumulation=4):
    total = 0.0
    for i, x in enumerate(batches):
        loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
        total += loss.item()
        (loss / accumulation).backward()  # -
        # + left = len(batches) % accumulation
        # + (loss / (left if i >= len(batches) - left else accumulation)).backward()
        # + if (i + 1) % accumulation == 0 or i + 1 == len(batches):
        if (i + 1) % accumulation == 0:  # -
            optimizer.step()  # here
            optimizer.zero_grad()
    return total / len(batches)


torch.manual_seed(0)
batches = list(torch.randn(10, 8, 4))
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for epoch in range(6):
    print(epoch, f"{train_one_epoch(model, optimizer, batches):.4f}")
