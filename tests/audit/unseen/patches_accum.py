# Patch classification with gradient accumulation (simulates batch 64 on a small card)
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, DataLoader

CONFIG = {
    "seed": 7,
    "epochs": 8,
    "batch_size": 16,
    "accum_steps": 4,
    "lr": 2e-3,
    "weight_decay": 1e-4,
}


class StripeDataset(Dataset):
    """Horizontal, vertical and diagonal stripes with noise."""

    def __init__(self, n, size=10):
        g = torch.Generator().manual_seed(n)
        self.y = torch.randint(0, 3, (n,), generator=g)
        r = torch.arange(size)
        base = torch.stack([
            (r[:, None] % 2).expand(size, size),
            (r[None, :] % 2).expand(size, size),
            (r[:, None] + r[None, :]) % 2,
        ]).float()
        self.x = base[self.y][:, None] + 0.8 * torch.randn(n, 1, size, size, generator=g)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class PatchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(1, 12, 3)
        self.c2 = nn.Conv2d(12, 12, 3)
        self.fc = nn.Linear(12, 3)

    def forward(self, x):
        x = F.relu(self.c1(x))
        x = F.relu(self.c2(x))
        return self.fc(x.mean(dim=(2, 3)))


def run(cfg):
    torch.manual_seed(cfg["seed"])
    torch.set_num_threads(1)
    loader = DataLoader(StripeDataset(512), batch_size=cfg["batch_size"], shuffle=True)
    val = StripeDataset(128)
    model = PatchNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg["lr"], weight_decay=cfg["weight_decay"])

    accum = cfg["accum_steps"]
    for epoch in range(cfg["epochs"]):
        model.train()
        running = 0.0
        for i, (x, y) in enumerate(loader):
            update = (i + 1) % accum == 0
            loss = F.cross_entropy(model(x), y)
            if update:
                optimizer.zero_grad()
            (loss / accum).backward()
            if update:
                optimizer.step()
            running += loss.item()

        model.eval()
        with torch.no_grad():
            acc = (model(val.x).argmax(1) == val.y).float().mean().item()
        print(f"[{epoch + 1}/{cfg['epochs']}] train {running / len(loader):.4f}  val acc {acc:.3f}")
    return running / len(loader)


if __name__ == "__main__":
    final = run(CONFIG)
    print(f"final loss {final:.4f}")
