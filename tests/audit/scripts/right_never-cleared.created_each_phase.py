"""Each phase creates its own optimizer: for the head, for all, with windows of four, with clipping, in a function."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(64, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def fit(parameters, lr, epochs, every=1, bound=None):
    optimizer = torch.optim.SGD(parameters, lr=lr, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    for _epoch in range(epochs):
        for nth, (inputs, targets) in enumerate(loader, 1):
            (nn.functional.mse_loss(model(inputs), targets) / every).backward()
            if bound:
                nn.utils.clip_grad_norm_(model.parameters(), bound)
            if nth % every == 0:
                optimizer.step()
                optimizer.zero_grad()
        scheduler.step()


model[0].requires_grad_(False)
fit(model[2].parameters(), 1e-2, 2)
model[0].requires_grad_(True)
fit(model.parameters(), 1e-3, 2)
fit(model.parameters(), 1e-3, 3, every=4)
fit(model.parameters(), 1e-4, 2, bound=0.1)
