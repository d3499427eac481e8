"""Architecture search: model.parameters() includes the mixing weights, which have their own optimizer.

Instead: leave them out of the larger optimizer, or requires_grad_(False) while it trains the others
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class SuperNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(8, 16)
        self.ops = nn.ModuleList([nn.Linear(16, 16), nn.Identity(), nn.Sequential(nn.Linear(16, 16), nn.Tanh())])
        self.head = nn.Linear(16, 2)
        self.alpha = nn.Parameter(1e-3 * torch.randn(3))

    def forward(self, x):
        x = torch.relu(self.stem(x))
        return self.head(sum(w * op(x) for w, op in zip(self.alpha.softmax(0), self.ops, strict=True)))


torch.manual_seed(0)
x = torch.randn(640, 8)
y = (x[:, 0] * x[:, 1] > 0).long()
train = DataLoader(TensorDataset(x[:320], y[:320]), batch_size=16, shuffle=True)
search = DataLoader(TensorDataset(x[320:], y[320:]), batch_size=16, shuffle=True)
model = SuperNet()
w_opt = torch.optim.SGD(model.parameters(), lr=0.025, momentum=0.9, weight_decay=3e-4)
a_opt = torch.optim.Adam([model.alpha], lr=3e-3, betas=(0.5, 0.999), weight_decay=1e-3)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(w_opt, 3, eta_min=0.001)
for _epoch in range(3):
    for (xt, yt), (xv, yv) in zip(train, search, strict=True):
        a_opt.zero_grad()
        # + model.alpha.requires_grad_(True)
        nn.functional.cross_entropy(model(xv), yv).backward()
        a_opt.step()  # here
        # + model.alpha.requires_grad_(False)
        w_opt.zero_grad()
        loss = nn.functional.cross_entropy(model(xt), yt)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        w_opt.step()  # here
    scheduler.step()
