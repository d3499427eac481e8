"""Mixed precision and windows of three: clipped after each backward pass, but unscaled only before the step.

Instead: clip once per window, between scaler.unscale_() and scaler.step()
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(96, 4)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
for _epoch in range(4):
    for nth, (inputs, targets) in enumerate(loader, 1):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.mse_loss(model(inputs).float(), targets) / 3
        scaler.scale(loss).backward()
        if nth % 3 == 0:
            scaler.unscale_(optimizer)
            # + nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)  # - here
        if nth % 3 == 0:
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
