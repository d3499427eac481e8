"""One optimizer that steps two others, for weights and for biases; nothing is cleared.

Instead: optimizer.zero_grad() before each loss.backward()
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Combined(torch.optim.Optimizer):
    def __init__(self, *parts):
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.parts = parts

    def step(self, closure=None):
        for part in self.parts:
            part.step()


torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
weights = torch.optim.SGD([p for p in model.parameters() if p.dim() > 1], lr=1e-2, momentum=0.9)
optimizer = Combined(weights, torch.optim.Adam([p for p in model.parameters() if p.dim() == 1], lr=1e-2))
for _epoch in range(3):
    for inputs, targets in loader:
        # + optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()  # here
        optimizer.step()  # here
