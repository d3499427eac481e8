"""Mixed precision: a function adds up the losses of three batches that it draws, and does not divide them.

Instead: scaler.scale(loss / 3).backward(), if these are micro-batches
"""

import torch
from torch import nn


def update(model, optimizer, scaler, data, batches=3):
    for _ in range(batches):
        drawn = data[torch.randint(len(data), (16,))]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.mse_loss(model(drawn).float(), drawn)
        scaler.scale(loss).backward()  # - here
        # + scaler.scale(loss / batches).backward()
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()


torch.manual_seed(0)
autoencoder = nn.Sequential(nn.Linear(4, 2), nn.Tanh(), nn.Linear(2, 4))
sgd, scaler = torch.optim.SGD(autoencoder.parameters(), lr=0.01), torch.amp.GradScaler("cpu", init_scale=1024.0)
data = torch.randn(200, 4)
for _ in range(24):
    update(autoencoder, sgd, scaler, data)
