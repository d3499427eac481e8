"""The averaged copy is clipped instead of the model that trains.

Instead: clip model.parameters() of the model that the optimizer trains, or a list of them
"""

import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Trainer:
    def __init__(self, net):
        self.net, self.average = net, copy.deepcopy(net)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=1e-2)

    def train_step(self, inputs, targets):
        loss = nn.functional.mse_loss(self.net(inputs), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(self.average.parameters(), max_norm=0.5)  # - here
        # + nn.utils.clip_grad_norm_(self.net.parameters(), max_norm=0.5)
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self.net.parameters(), strict=True):
                slow.lerp_(fast, 0.1)


torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
trainer = Trainer(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)))
for _epoch in range(3):
    for inputs, targets in loader:
        trainer.train_step(inputs, targets)
