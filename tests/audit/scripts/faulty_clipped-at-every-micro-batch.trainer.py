"""A trainer whose backward() also clips, called for each of three micro-batches of a window.

Instead: clip once per window, right before optimizer.step()
"""

import torch
from torch import nn


class Trainer:
    def __init__(self, model, every=3, bound=0.1):
        self.model, self.every, self.bound = model, every, bound
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def backward(self, loss):
        (loss / self.every).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.bound)  # - here

    def update(self, micro_batches):
        self.optimizer.zero_grad()
        for inputs, labels in micro_batches:
            self.backward(nn.functional.cross_entropy(self.model(inputs), labels))
        # + nn.utils.clip_grad_norm_(self.model.parameters(), self.bound)
        self.optimizer.step()


torch.manual_seed(0)
trainer = Trainer(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)))
for _ in range(20):
    trainer.update([(inputs, (inputs.sum(1) > 0).long()) for inputs in torch.randn(3, 16, 4)])
