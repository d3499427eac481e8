"""Domain adaptation: the encoder's loss against a critic leaves gradient in the critic, which clears after its step.

Instead: zero_grad() before its own loss.backward(), or detach() before the other loss
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Adaptation:
    def __init__(self):
        self.encoder = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        self.critic = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
        self.of_encoder = torch.optim.SGD(self.encoder.parameters(), lr=0.01, momentum=0.9)
        self.of_critic = torch.optim.SGD(self.critic.parameters(), lr=0.01, momentum=0.9)

    def judged(self, features, label):
        return nn.functional.cross_entropy(self.critic(features), torch.full((len(features),), label))

    def train_critic(self, source, target):
        # + self.of_critic.zero_grad()
        with torch.no_grad():
            features = self.encoder(source), self.encoder(target)
        (self.judged(features[0], 0) + self.judged(features[1], 1)).backward()
        self.of_critic.step()
        self.of_critic.zero_grad()

    def train_encoder(self, target):
        self.of_encoder.zero_grad()
        self.judged(self.encoder(target), 0).backward()  # here
        self.of_encoder.step()


torch.manual_seed(0)
sources = DataLoader(TensorDataset(torch.randn(96, 4)), batch_size=16, shuffle=True)
targets = DataLoader(TensorDataset(torch.randn(96, 4) + 1), batch_size=16, shuffle=True)
adaptation = Adaptation()
for _epoch in range(5):
    for (source,), (target,) in zip(sources, targets, strict=True):
        adaptation.train_critic(source, target)
        adaptation.train_encoder(target)
