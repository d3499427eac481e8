"""Pretrain a denoising autoencoder on digits, then fine-tune its encoder as a classifier.

Stage 1 uses all training images without labels. Stage 2 uses a small labelled part of them.
"""

import argparse
import os
import random
import time

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def get_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pretrain-epochs", type=int, default=4)
    parser.add_argument("--finetune-epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--pretrain-lr", type=float, default=2e-3)
    parser.add_argument("--encoder-lr", type=float, default=1e-3)
    parser.add_argument("--head-lr", type=float, default=1e-2)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--noise", type=float, default=0.3)
    parser.add_argument("--labelled", type=int, default=400, help="labelled images in stage 2")
    parser.add_argument("--out-dir", default="checkpoints")
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


def set_seed(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def load_data():
    digits = load_digits()
    images = (digits.images / 16.0).astype(np.float32)[:, None]
    labels = digits.target.astype(np.int64)
    train_x, val_x, train_y, val_y = train_test_split(images, labels, test_size=0.2, random_state=0, stratify=labels)
    return [torch.from_numpy(a) for a in (train_x, train_y, val_x, val_y)]


class Encoder(nn.Module):
    def __init__(self, width=16, features=48):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(2 * width)
        self.fc = nn.Linear(2 * width * 4 * 4, features)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.norm(self.conv2(x)))
        return F.relu(self.fc(x.flatten(1)))


class Decoder(nn.Module):
    def __init__(self, features=48):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(features, 128), nn.ReLU(), nn.Linear(128, 64), nn.Sigmoid())

    def forward(self, z):
        return self.net(z).view(-1, 1, 8, 8)


class Classifier(nn.Module):
    def __init__(self, encoder, features=48, classes=10):
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(features, classes)

    def forward(self, x):
        return self.head(self.dropout(self.encoder(x)))


def pretrain(args, train_x):
    """Train the autoencoder and save the encoder's weights."""
    encoder, decoder = Encoder(), Decoder()
    params = list(encoder.parameters()) + list(decoder.parameters())
    optimizer = torch.optim.Adam(params, lr=args.pretrain_lr)
    loader = DataLoader(TensorDataset(train_x), batch_size=args.batch_size, shuffle=True)

    encoder.train()
    for epoch in range(args.pretrain_epochs):
        total = 0.0
        for (x,) in loader:
            noisy = (x + args.noise * torch.randn_like(x)).clamp(0, 1)
            loss = F.mse_loss(decoder(encoder(noisy)), x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        print(f"pretrain {epoch + 1}/{args.pretrain_epochs}  mse {total / len(train_x):.4f}")

    path = os.path.join(args.out_dir, "encoder.pt")
    torch.save(encoder.state_dict(), path)
    return path


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    loss, correct, n = 0.0, 0, 0
    for x, y in loader:
        logits = model(x)
        loss += F.cross_entropy(logits, y, reduction="sum").item()
        correct += (logits.argmax(1) == y).sum().item()
        n += len(y)
    return loss / n, correct / n


def finetune(args, encoder_path, train_x, train_y, val_x, val_y):
    """Train encoder and head on labelled images; keep the best epoch in best.pt."""
    encoder = Encoder()
    encoder.load_state_dict(torch.load(encoder_path))
    model = Classifier(encoder)
    optimizer = torch.optim.AdamW(
        [
            {"params": model.encoder.parameters(), "lr": args.encoder_lr},
            {"params": model.head.parameters(), "lr": args.head_lr},
        ],
        weight_decay=args.weight_decay,
    )
    train_set = TensorDataset(train_x[: args.labelled], train_y[: args.labelled])
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(TensorDataset(val_x, val_y), batch_size=256)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.finetune_epochs * len(train_loader))

    best_path = os.path.join(args.out_dir, "best.pt")
    best_acc = -1.0
    for epoch in range(args.finetune_epochs):
        model.train()
        for x, y in train_loader:
            model.zero_grad()
            loss = F.cross_entropy(model(x), y, label_smoothing=0.05)
            loss.backward()
            optimizer.step()
            scheduler.step()
        val_loss, val_acc = evaluate(model, val_loader)
        print(f"finetune {epoch + 1}/{args.finetune_epochs}  val loss {val_loss:.4f}  acc {val_acc:.4f}")
        if val_acc > best_acc:
            best_acc = val_acc
            torch.save({"model": model.state_dict(), "epoch": epoch, "acc": val_acc}, best_path)

    checkpoint = torch.load(best_path)
    model.load_state_dict(checkpoint["model"])
    return evaluate(model, val_loader)


def main():
    args = get_args()
    set_seed(args.seed)
    os.makedirs(args.out_dir, exist_ok=True)
    start = time.time()
    train_x, train_y, val_x, val_y = load_data()
    encoder_path = pretrain(args, train_x)
    val_loss, val_acc = finetune(args, encoder_path, train_x, train_y, val_x, val_y)
    print(f"done in {time.time() - start:.1f} s")
    print(f"best checkpoint: val loss {val_loss:.4f} val acc {val_acc:.4f}")


if __name__ == "__main__":
    main()
