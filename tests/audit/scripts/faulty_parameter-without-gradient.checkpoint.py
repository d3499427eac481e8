"""Blocks are checkpointed, reentrant, but their input requires no gradient, so they get none.

Instead: look for detach(), .data, .item() or no_grad() before the loss, and for reentrant checkpoints whose inputs
require no gradient; requires_grad_(False) for layers that should stay fixed
"""

import warnings

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.block1 = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.block2 = nn.Sequential(nn.Linear(32, 32), nn.ReLU())
        self.head = nn.Linear(32, 2)

    def forward(self, x):
        for block in (self.block1, self.block2):
            x = checkpoint(block, x, use_reentrant=True)  # -
            # + x = checkpoint(block, x, use_reentrant=False)
        return self.head(x)


warnings.filterwarnings("ignore", "None of the inputs have requires_grad")
torch.manual_seed(0)
x = torch.randn(320, 8)
y = (x[:, 0] * x[:, 1] > 0).long()
loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
model = Net()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
for _ in range(3):
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()  # here
print(f"{loss.item():.4f}")
