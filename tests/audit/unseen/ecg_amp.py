"""1-d conv net on synthetic ECG-like beats, mixed precision loop."""
import math

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset


class Beats(Dataset):
    def __init__(self, n, length=64, seed=0):
        g = torch.Generator().manual_seed(seed)
        t = torch.linspace(0, 1, length)
        self.labels = torch.randint(0, 3, (n,), generator=g)
        widths = torch.tensor([0.02, 0.05, 0.10])[self.labels]
        centres = 0.3 + 0.4 * torch.rand(n, generator=g)
        self.signals = torch.exp(-((t[None] - centres[:, None]) ** 2) / (2 * widths[:, None] ** 2))
        self.signals += 0.1 * torch.sin(2 * math.pi * t)[None] + 0.1 * torch.randn(n, length, generator=g)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, k):
        return self.signals[k][None], self.labels[k]


def conv_block(i, o):
    return nn.Sequential(nn.Conv1d(i, o, 5, stride=2, padding=2), nn.BatchNorm1d(o), nn.ReLU())


class BeatNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(conv_block(1, 8), conv_block(8, 16), conv_block(16, 16))
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        return self.fc(self.features(x).mean(-1))


def train_epoch(net, loader, optimizer, scaler, loss_fn, max_norm=2.0):
    net.train()
    losses = []
    for signal, label in loader:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=False):
            loss = loss_fn(net(signal), label)
        scaler.scale(loss)
        loss.backward()

        # gradients must be unscaled before they are clipped
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), max_norm)
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def test(net, loader):
    net.eval()
    hits = 0
    with torch.no_grad():
        for signal, label in loader:
            hits += (net(signal).argmax(1) == label).sum().item()
    return hits / len(loader.dataset)


def main():
    torch.manual_seed(99)
    torch.set_num_threads(1)
    train_dl = DataLoader(Beats(600, seed=1), batch_size=30, shuffle=True)
    test_dl = DataLoader(Beats(150, seed=2), batch_size=150)
    net = BeatNet()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    scaler = torch.amp.GradScaler("cpu")
    loss_fn = nn.CrossEntropyLoss()
    for epoch in range(1, 6):
        loss = train_epoch(net, train_dl, optimizer, scaler, loss_fn)
        print("epoch", epoch, "loss %.4f" % loss, "acc %.3f" % test(net, test_dl))
    print("final loss %.4f" % loss)


if __name__ == "__main__":
    main()
