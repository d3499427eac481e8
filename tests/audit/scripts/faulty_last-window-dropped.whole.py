"""A window steps when the next one begins, so the last window of each epoch is cleared unused.

Instead: optimizer.step() after the last window of an epoch too, before zero_grad()
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(240, 8)
y = (x[:, 0] > 0).long()
loaders = {
    "train": DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True),
    "val": DataLoader(TensorDataset(x, y), batch_size=40),
}
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda e: 0.95**e)
multiplier = 3
for epoch in range(5):
    totals = {}
    for phase in ("train", "val"):
        if phase == "train":
            model.train()
            optimizer.zero_grad()
        else:
            model.eval()
        count, total = multiplier, 0.0
        for inputs, labels in loaders[phase]:
            if phase == "train" and count == 0:
                optimizer.step()  # here
                optimizer.zero_grad()
                count = multiplier
            with torch.set_grad_enabled(phase == "train"):
                loss = criterion(model(inputs), labels) / multiplier
                if phase == "train":
                    loss.backward()
                    count -= 1
                total += loss.item() * multiplier
        # + if phase == "train":
        # +     optimizer.step()
        totals[phase] = total / len(loaders[phase])
    scheduler.step()
    print(f"epoch {epoch} train {totals['train']:.4f} val {totals['val']:.4f}")
