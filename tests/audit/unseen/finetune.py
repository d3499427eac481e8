"""Train everything for a few epochs, then freeze the backbone and go on with the head."""
import argparse

import torch
import torch.nn as nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

from finetune_model import Net


def blobs(n, n_classes=5, noise=0.9):
    proto = torch.randn(n_classes, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.randint(0, n_classes, (n,))
    return TensorDataset(proto[y] + noise * torch.randn(n, 3, 8, 8), y)


def step(model, batch, optimizer, criterion):
    x, y = batch
    # keep the gradient buffers, saves allocations
    optimizer.zero_grad(set_to_none=False)
    loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()


def freeze(module):
    for p in module.parameters():
        p.requires_grad_(False)
    module.eval()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--warm-epochs", type=int, default=3)
    ap.add_argument("--head-epochs", type=int, default=4)
    ap.add_argument("--lr", type=float, default=0.02)
    ap.add_argument("--wd", type=float, default=5e-3)
    args = ap.parse_args()

    torch.manual_seed(8)
    torch.set_num_threads(1)
    loader = DataLoader(blobs(320), batch_size=32, shuffle=True)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=args.wd)
    scheduler = StepLR(optimizer, step_size=2, gamma=0.7)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)

    for epoch in range(args.warm_epochs + args.head_epochs):
        model.train()
        if epoch >= args.warm_epochs:
            freeze(model.backbone)
        losses = [step(model, batch, optimizer, criterion) for batch in loader]
        scheduler.step()
        mean = sum(losses) / len(losses)
        stage = "head" if epoch >= args.warm_epochs else "all"
        print(f"epoch {epoch} ({stage}): {mean:.4f}")
    print("final loss:", mean)


if __name__ == "__main__":
    main()
