"""Pretrain on a rotation task, then put a new head on the features and train only that."""
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset


def images(n, classes=3):
    g = torch.Generator().manual_seed(5)
    protos = torch.randn(classes, 1, 8, 8, generator=g)
    y = torch.randint(0, classes, (n,))
    return protos[y] + 0.6 * torch.randn(n, 1, 8, 8), y


def rotate(x):
    k = torch.randint(0, 4, (x.shape[0],))
    out = torch.stack([torch.rot90(img, int(r), (1, 2)) for img, r in zip(x, k)])
    return out, k


def build(n_out):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(),
        nn.Conv2d(8, 16, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(64, n_out),
    )


def fit(model, loader, optimizer, epochs, tag):
    ce = nn.CrossEntropyLoss()
    for epoch in range(epochs):
        total = 0.0
        for x, y in loader:
            loss = ce(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"{tag} {epoch}: {total / len(loader):.4f}")
    return total / len(loader)


def main():
    torch.manual_seed(64)
    x, y = images(320)

    # 1. pretext task
    model = build(4)
    pretext = DataLoader(TensorDataset(*rotate(x)), batch_size=32, shuffle=True)
    fit(model, pretext, torch.optim.Adam(model.parameters(), lr=3e-3), 4, "rotation")

    # 2. the task we care about
    for p in model.parameters():
        p.requires_grad_(False)
    model[-1] = nn.Sequential(nn.LazyLinear(32), nn.ReLU(), nn.Linear(32, 3))
    with torch.no_grad():
        model(x[:2])  # initializes the lazy layer
    head_params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(head_params, lr=0.1, momentum=0.9)
    final = fit(model, DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True), optimizer, 5, "head")

    model.eval()
    with torch.no_grad():
        xt, yt = images(100)
        print("test acc", (model(xt).argmax(1) == yt).float().mean().item())
    print("final loss", final)


if __name__ == "__main__":
    main()
