import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class SmallNet(nn.Module):
    """Conv stem + classifier, each with its own learning rate."""

    def __init__(self, classes=4):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, classes))

    def forward(self, x):
        return self.classifier(self.stem(x))


def make_data(n, classes=4):
    y = torch.randint(0, classes, (n,))
    x = 0.5 * torch.randn(n, 1, 12, 12)
    for i, c in enumerate(y.tolist()):
        r, k = divmod(c, 2)
        x[i, 0, r * 6:r * 6 + 6, k * 6:k * 6 + 6] += 1.0  # bright quadrant
    return TensorDataset(x, y)


def clear_grads(optimizer):
    # a bit faster than zero_grad() in our profile
    for p in optimizer.param_groups[0]["params"]:
        p.grad = None


def train_one_epoch(model, loader, optimizer, criterion):
    model.train()
    total, seen = 0.0, 0
    for x, y in loader:
        clear_grads(optimizer)
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(x)
        seen += len(x)
    return total / seen


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    correct = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    return correct / len(loader.dataset)


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--epochs", type=int, default=6)
    ap.add_argument("--lr", type=float, default=0.01)
    ap.add_argument("--batch-size", type=int, default=32)
    args = ap.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    train_loader = DataLoader(make_data(512), args.batch_size, shuffle=True)
    test_loader = DataLoader(make_data(128), 128)
    net = SmallNet()
    opt = torch.optim.SGD(
        [
            {"params": net.stem.parameters(), "lr": args.lr * 3},
            {"params": net.classifier.parameters()},
        ],
        lr=args.lr, momentum=0.5,
    )
    for epoch in range(args.epochs):
        loss = train_one_epoch(net, train_loader, opt, nn.CrossEntropyLoss())
        print(f"epoch {epoch}: loss={loss:.3f} acc={evaluate(net, test_loader):.3f}")
    print("final loss", loss)
