"""Virtual batches with noise in the gradient: zero_grad() comes before every part, not once per virtual batch.

Instead: optimizer.zero_grad() once per window, after optimizer.step()
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 6)
y = (x.sum(1) > 0).long()
loader = DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
criterion = nn.CrossEntropyLoss()
virtual = 4
for epoch in range(3):
    for i, (inputs, labels) in enumerate(loader):
        optimizer.zero_grad()  # - here
        loss = criterion(model(inputs), labels) / virtual
        loss.backward()
        if (i + 1) % virtual == 0 or (i + 1) == len(loader):
            for p in model.parameters():
                p.grad.add_(0.001 * torch.randn_like(p))
            optimizer.step()
            # + optimizer.zero_grad()
    print(f"epoch {epoch}: {loss.item():.4f}")
