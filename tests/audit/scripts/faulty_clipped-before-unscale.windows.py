"""A trainer with mixed precision and windows of two: it clips at the end of a window, and scaler.step() unscales.

Instead: scaler.unscale_(optimizer) before clipping
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Trainer:
    def __init__(self, model, every=2):
        self.model, self.every = model, every
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=256.0)

    def forward_backward(self, inputs, targets):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.mse_loss(self.model(inputs).float(), targets) / self.every
        self.scaler.scale(loss).backward()

    def update(self):
        # + self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_value_(self.model.parameters(), 0.05)  # here
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()


torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
trainer = Trainer(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)))
for _epoch in range(3):
    for nth, batch in enumerate(loader, 1):
        trainer.forward_backward(*batch)
        if nth % trainer.every == 0:
            trainer.update()
