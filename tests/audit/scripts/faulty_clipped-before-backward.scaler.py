"""Mixed precision: the gradient is clipped when it was just cleared, before the loss is scaled.

Instead: clip after loss.backward(), between scaler.unscale_() and scaler.step()
"""

import torch
from torch import nn


def update(model, optimizer, scaler, inputs):
    optimizer.zero_grad(set_to_none=False)
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)  # - here
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nn.functional.mse_loss(model(inputs).float(), inputs)
    scaler.scale(loss).backward()
    # + scaler.unscale_(optimizer)
    # + nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    scaler.step(optimizer)
    scaler.update()


torch.manual_seed(0)
autoencoder = nn.Sequential(nn.Linear(4, 2), nn.Tanh(), nn.Linear(2, 4))
adam, scaler = torch.optim.Adam(autoencoder.parameters(), lr=0.01), torch.amp.GradScaler("cpu", init_scale=1024.0)
for batch in torch.randn(24, 16, 4):
    update(autoencoder, adam, scaler, batch)
