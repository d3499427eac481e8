"""Small vision transformer on scikit-learn's digits with gradient accumulation.

The effective batch is --batch-size times --accum-steps images.
"""

import argparse
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset


def parse_args():
    p = argparse.ArgumentParser()
    p.add_argument("--epochs", type=int, default=8)
    p.add_argument("--batch-size", type=int, default=8)
    p.add_argument("--accum-steps", type=int, default=4)
    p.add_argument("--lr", type=float, default=4e-3)
    p.add_argument("--min-lr", type=float, default=1e-4)
    p.add_argument("--warmup", type=int, default=30, help="warmup updates")
    p.add_argument("--weight-decay", type=float, default=0.05)
    p.add_argument("--dim", type=int, default=48)
    p.add_argument("--depth", type=int, default=2)
    p.add_argument("--heads", type=int, default=4)
    p.add_argument("--grad-clip", type=float, default=1.0)
    return p.parse_args()


class Digits(Dataset):
    """8x8 digits; noise is added to the training part."""

    def __init__(self, train):
        bunch = load_digits()
        is_val = torch.arange(len(bunch.target)) % 5 == 4
        keep = ~is_val if train else is_val
        self.images = torch.tensor(bunch.images, dtype=torch.float32)[keep] / 16
        self.labels = torch.tensor(bunch.target)[keep]
        self.train = train

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = self.images[i]
        if self.train:
            image = image + 0.05 * torch.randn_like(image)
        return image, self.labels[i]


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(b, n, d))


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = Attention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self, dim, depth, heads, classes=10):
        super().__init__()
        self.embed = nn.Linear(4, dim)  # patches of 2x2 pixels
        self.pos = nn.Parameter(0.2 * torch.randn(1, 17, dim))
        self.cls = nn.Parameter(torch.zeros(1, 1, dim))
        self.blocks = nn.Sequential(*[Block(dim, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, images):
        patches = images.unfold(1, 2, 2).unfold(2, 2, 2).flatten(1, 2).flatten(2)
        x = self.embed(patches)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1) + self.pos
        return self.head(self.norm(self.blocks(x))[:, 0])


def param_groups(model, weight_decay):
    """No weight decay for biases, norms and embeddings."""
    decay = [p for n, p in model.named_parameters() if p.ndim == 2]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2]
    return [{"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def lr_at(update, args, total):
    if update < args.warmup:
        return args.lr * (update + 1) / args.warmup
    progress = (update - args.warmup) / max(1, total - args.warmup)
    return args.min_lr + 0.5 * (args.lr - args.min_lr) * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    correct = sum((model(x).argmax(-1) == y).sum().item() for x, y in loader)
    model.train()
    return correct / len(loader.dataset)


def main():
    args = parse_args()
    train_set, val_set = Digits(train=True), Digits(train=False)
    train_loader = DataLoader(train_set, args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, 256)

    model = ViT(args.dim, args.depth, args.heads)
    optimizer = torch.optim.AdamW(param_groups(model, args.weight_decay), lr=args.lr, betas=(0.9, 0.95))
    updates_per_epoch = math.ceil(len(train_loader) / args.accum_steps)
    total = args.epochs * updates_per_epoch
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {total} updates")

    update = 0
    optimizer.zero_grad()
    for epoch in range(args.epochs):
        running = 0.0
        for i, (x, y) in enumerate(train_loader):
            # the last window of an epoch may be shorter
            first = i - i % args.accum_steps
            window = min(args.accum_steps, len(train_loader) - first)
            loss = F.cross_entropy(model(x), y)
            (loss / window).backward()
            running += loss.item()
            if (i + 1) % args.accum_steps == 0 or i + 1 == len(train_loader):
                for group in optimizer.param_groups:
                    group["lr"] = lr_at(update, args, total)
                nn.utils.clip_grad_norm_(model.parameters(), args.grad_clip)
                optimizer.step()
                optimizer.zero_grad()
                update += 1
        val = accuracy(model, val_loader)
        print(f"epoch {epoch + 1}: train loss {running / len(train_loader):.4f}, val accuracy {val:.4f}")

    print(f"final val accuracy {accuracy(model, val_loader):.4f}")


if __name__ == "__main__":
    main()
