"""Seven batches in a list, in windows of three: the last one is its own window, but divided by three.

Instead: divide each loss by the number of micro-batches in its own window
"""

import torch
from torch import nn


def windows_of(batches, length):
    for start in range(0, len(batches), length):
        yield batches[start : start + length]


def train_epoch(model, optimizer, batches, length=3):
    for window in windows_of(batches, length):
        for inputs in window:
            loss = nn.functional.l1_loss(model(inputs), inputs.mean(1, keepdim=True))
            (loss / length).backward()  # - here
            # + (loss / len(window)).backward()
        optimizer.step()
        optimizer.zero_grad()


torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
batches = list(torch.randn(7, 8, 4))
for _ in range(5):
    train_epoch(model, optimizer, batches)
