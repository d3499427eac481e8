"""A backbone is unfrozen in the second of four short epochs, but the optimizer does not hold it.

Instead: pass them to an optimizer, or requires_grad_(False) if they should stay fixed
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class FineTuner:
    def __init__(self, backbone, head):
        self.backbone, self.head = backbone, head
        self.freeze(True)
        params = filter(lambda p: p.requires_grad, [*backbone.parameters(), *head.parameters()])
        self.optimizer = torch.optim.AdamW(params, lr=1e-3)

    def freeze(self, frozen):
        for p in self.backbone.parameters():
            p.requires_grad = not frozen

    def epoch(self, loader):
        for x, y in loader:
            loss = nn.functional.cross_entropy(self.head(self.backbone(x)), y)
            self.optimizer.zero_grad()
            loss.backward()  # here
            self.optimizer.step()
        return loss.item()


torch.manual_seed(0)
x = torch.randn(320, 8)
y = (x[:, 0] * x[:, 1] > 0).long()
loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
tuner = FineTuner(nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU()), nn.Linear(16, 2))
for epoch in range(4):
    if epoch == 1:
        tuner.freeze(False)
        # + tuner.optimizer.add_param_group({"params": list(tuner.backbone.parameters())})
    print(f"epoch {epoch}: {tuner.epoch(loader):.4f}")
