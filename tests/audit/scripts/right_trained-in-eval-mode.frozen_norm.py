"""Fine-tuning: a backbone in eval mode keeps its statistics; its head trains. A net without dropout stays in eval."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 1))

    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, x):
        return self.head(self.backbone(x))


torch.manual_seed(0)
x = torch.randn(64, 4)
y = x.sum(1, keepdim=True)
detector, plain = Detector(), nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).eval()
optimizers = [torch.optim.SGD(each.parameters(), lr=0.01) for each in (detector, plain)]
loader = DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)
for _epoch in range(4):
    detector.train()
    for inputs, targets in loader:
        for each, optimizer in zip((detector, plain), optimizers, strict=True):
            optimizer.zero_grad()
            nn.functional.mse_loss(each(inputs), targets).backward()
            optimizer.step()
