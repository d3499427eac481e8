"""Lookahead, an optimizer around another one, and nothing is cleared.

Instead: optimizer.zero_grad() before each loss.backward()
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Lookahead(torch.optim.Optimizer):
    def __init__(self, base, every=5, alpha=0.5):
        super().__init__(base.param_groups, {})
        self.base, self.every, self.alpha, self.steps = base, every, alpha, 0
        self.param_groups = base.param_groups
        self.slow = [[p.detach().clone() for p in group["params"]] for group in base.param_groups]

    @torch.no_grad()
    def step(self, closure=None):
        loss = self.base.step(closure)  # here
        self.steps += 1
        for group, slow in zip(self.param_groups, self.slow, strict=True) if self.steps % self.every == 0 else ():
            for p, s in zip(group["params"], slow, strict=True):
                p.copy_(s.lerp_(p, self.alpha))
        return loss


torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = Lookahead(torch.optim.AdamW(model.parameters(), lr=1e-3))
for _epoch in range(3):
    for inputs, targets in loader:
        # + optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()  # here
        optimizer.step()
