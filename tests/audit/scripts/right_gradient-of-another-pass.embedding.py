"""Adversarial training of a text classifier: a second pass, with an attacked embedding, adds to the first."""

import torch
from torch import nn


class Attack:
    def __init__(self, model, eps=0.5):
        self.parameters = [p for name, p in model.named_parameters() if "embedding" in name]
        self.eps, self.saved = eps, []

    def attack(self):
        self.saved = [p.data.clone() for p in self.parameters]
        for p in self.parameters:
            p.data.add_(self.eps * p.grad / p.grad.norm())

    def restore(self):
        for p, saved in zip(self.parameters, self.saved, strict=True):
            p.data = saved


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(30, 8)
        self.head = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 2))

    def forward(self, tokens):
        return self.head(self.embedding(tokens).mean(1))


torch.manual_seed(0)
tokens = torch.randint(0, 30, (64, 5))
labels = (tokens[:, 0] > 14).long()
model = Classifier()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
attacker = Attack(model)
for _ in range(60):
    criterion(model(tokens), labels).backward()
    attacker.attack()
    criterion(model(tokens), labels).backward()
    attacker.restore()
    optimizer.step()
    optimizer.zero_grad()
