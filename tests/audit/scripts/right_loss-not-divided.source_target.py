"""One function takes the passes for labelled and unlabelled batches of two DataLoaders; their sum is clipped."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Student:
    def __init__(self):
        self.model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)

    def learn(self, inputs, labels):
        nn.functional.cross_entropy(self.model(inputs), labels).backward()

    def step(self):
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.2)
        self.optimizer.step()
        self.optimizer.zero_grad()


torch.manual_seed(0)
x = torch.randn(200, 8)
labelled = DataLoader(TensorDataset(x[:80], (x[:80, 0] > 0).long()), batch_size=4, shuffle=True)
unlabelled = DataLoader(TensorDataset(x[80:]), batch_size=6, shuffle=True)
student = Student()
for _epoch in range(3):
    for (inputs, labels), (others,) in zip(labelled, unlabelled, strict=True):
        student.learn(inputs, labels)
        with torch.no_grad():
            guessed = student.model(others).argmax(1)
        student.learn(others, guessed)
        student.step()
