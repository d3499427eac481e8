"""Windows of eight: the loss is divided by the number of processes, which is 1, and the sum is clipped.

Instead: (loss / 8).backward()
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Trainer:
    world_size = torch.tensor(1)

    def __init__(self, model, accumulation):
        self.model, self.accumulation = model, accumulation
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def micro_step(self, nth, inputs, targets):
        loss = nn.functional.mse_loss(self.model(inputs), targets)
        (loss / self.world_size).backward()  # - here
        # + (loss / self.world_size / self.accumulation).backward()
        if nth % self.accumulation == 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=0.05)
            self.optimizer.step()
            self.optimizer.zero_grad()


torch.manual_seed(0)
x = torch.randn(320, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4)
trainer = Trainer(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)), accumulation=8)
for _epoch in range(3):
    for nth, (inputs, targets) in enumerate(loader, 1):
        trainer.micro_step(nth, inputs, targets)
