"""Three tasks with a head and a DataLoader each and a shared body; losses are summed and clipped."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(192, 4)
targets = [x.sum(1, keepdim=True), x.square().sum(1, keepdim=True), x[:, :1]]
loaders = [DataLoader(TensorDataset(x, each), batch_size=8, shuffle=True) for each in targets]
body, heads = nn.Sequential(nn.Linear(4, 8), nn.Tanh()), nn.ModuleList(nn.Linear(8, 1) for _ in targets)
parameters = [*body.parameters(), *heads.parameters()]
optimizer = torch.optim.SGD(parameters, lr=0.01)
for batches in zip(*loaders, strict=True):
    optimizer.zero_grad()
    for head, (inputs, target) in zip(heads, batches, strict=True):
        nn.functional.mse_loss(head(body(inputs)), target).backward()
    nn.utils.clip_grad_norm_(parameters, 0.1)
    optimizer.step()
