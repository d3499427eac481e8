"""DistributedDataParallel with gloo, accumulation and no_sync(), configured by RANK and WORLD_SIZE."""

import os
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import distributed, nn

rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
store = distributed.FileStore(str(Path("store").resolve()), world_size)
distributed.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
torch.manual_seed(rank)
x = torch.randn(64, 4)
model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(24):
    optimizer.zero_grad()
    for nth, part in enumerate(x.split(16)):
        with model.no_sync() if nth < 3 else nullcontext():
            (nn.functional.mse_loss(model(part), part.sum(1, keepdim=True)) / 4).backward()
    optimizer.step()
print(sum(p.sum().item() for p in model.parameters()))
distributed.destroy_process_group()
