"""The optimizer has used up the generator of parameters that is then clipped.

Instead: clip model.parameters() of the model that the optimizer trains, or a list of them
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(320, 8)
loader = DataLoader(TensorDataset(x, 20 * x[:, :1]), batch_size=16, shuffle=True)
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
trainable = filter(lambda p: p.requires_grad, model.parameters())  # -
# + trainable = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.SGD(trainable, lr=1e-3)
for _epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(trainable, 1.0)  # here
        optimizer.step()
