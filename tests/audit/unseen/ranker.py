import argparse
import random

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

# Pairwise ranking (BPR) of items for users. Updates are made every
# --accumulate batches, counted over the whole training, so every update
# sees exactly the same number of pairs whatever the size of an epoch.


class Triples(Dataset):
    """(user, liked item, other item)"""

    def __init__(self, users, items, n, seed=0):
        rng = random.Random(seed)
        self.rows = []
        for _ in range(n):
            u = rng.randrange(users)
            good = rng.choice([i for i in range(items) if i % 5 == u % 5])
            bad = rng.choice([i for i in range(items) if i % 5 != u % 5])
            self.rows.append((u, good, bad))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, k):
        return self.rows[k]


class BPR(nn.Module):
    def __init__(self, users, items, dim=12):
        super().__init__()
        self.user = nn.Embedding(users, dim)
        self.item = nn.Embedding(items, dim)
        self.bias = nn.Embedding(items, 1)
        for table in (self.user, self.item):
            nn.init.normal_(table.weight, std=0.2)
        nn.init.zeros_(self.bias.weight)

    def score(self, u, i):
        return (self.user(u) * self.item(i)).sum(1) + self.bias(i).squeeze(1)

    def forward(self, u, good, bad):
        return self.score(u, good) - self.score(u, bad)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--epochs", type=int, default=14)
    ap.add_argument("--accumulate", type=int, default=4)
    ap.add_argument("--lr", type=float, default=0.03)
    args = ap.parse_args()

    torch.manual_seed(1)
    loader = DataLoader(Triples(30, 40, 450), batch_size=45, shuffle=True)
    model = BPR(30, 40)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    optimizer.zero_grad()
    seen = 0
    for epoch in range(args.epochs):
        total = 0.0
        for u, good, bad in loader:
            loss = -nn.functional.logsigmoid(model(u, good, bad)).mean()
            (loss / args.accumulate).backward()
            total += loss.item()
            seen += 1
            if seen % args.accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()
        print(f"epoch {epoch} bpr {total / len(loader):.4f} updates {seen // args.accumulate}")
    print("final loss", total / len(loader))


if __name__ == "__main__":
    main()
