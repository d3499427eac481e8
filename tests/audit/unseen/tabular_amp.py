#!/usr/bin/env python3
"""Tabular regression with categorical embeddings. Uses AMP if there is a GPU."""
import argparse
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class TabularModel(nn.Module):
    def __init__(self, cardinalities, n_cont, hidden=48):
        super().__init__()
        self.embeds = nn.ModuleList(nn.Embedding(c, min(8, (c + 1) // 2)) for c in cardinalities)
        n_emb = sum(e.embedding_dim for e in self.embeds)
        self.bn = nn.BatchNorm1d(n_cont)
        self.body = nn.Sequential(
            nn.Linear(n_emb + n_cont, hidden), nn.ReLU(), nn.Dropout(0.05), nn.Linear(hidden, 1)
        )

    def forward(self, cat, cont):
        parts = [e(cat[:, i]) for i, e in enumerate(self.embeds)]
        return self.body(torch.cat(parts + [self.bn(cont)], 1)).squeeze(1)


def synth(n, cardinalities, n_cont):
    cat = torch.stack([torch.randint(0, c, (n,)) for c in cardinalities], 1)
    cont = torch.randn(n, n_cont)
    effects = [torch.randn(c) for c in cardinalities]
    y = sum(e[cat[:, i]] for i, e in enumerate(effects)) + cont @ torch.randn(n_cont) + 0.1 * torch.randn(n)
    return TensorDataset(cat, cont, y)


class Learner:
    def __init__(self, model, lr, device):
        self.model = model.to(device)
        self.device = device
        self.use_amp = device.type == "cuda"
        self.opt = torch.optim.Adam(self.model.parameters(), lr=lr)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.use_amp)
        self.loss = nn.SmoothL1Loss()

    def fit(self, train_dl, valid_dl, epochs):
        for ep in range(epochs):
            self.model.train()
            for cat, cont, y in train_dl:
                self.opt.zero_grad()
                with torch.autocast(self.device.type, enabled=self.use_amp):
                    loss = self.loss(self.model(cat.to(self.device), cont.to(self.device)), y.to(self.device))
                self.scaler.scale(loss).backward()
                self.scaler.step(self.opt)
                self.scaler.update()
                self.opt.step()
            val = self.validate(valid_dl)
            print(f"epoch {ep:2d} valid {val:.4f}")
        return val

    @torch.no_grad()
    def validate(self, dl):
        self.model.eval()
        losses = [self.loss(self.model(a.to(self.device), b.to(self.device)), y.to(self.device)).item() for a, b, y in dl]
        return sum(losses) / len(losses)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=5e-3)
    opts = parser.parse_args()

    torch.manual_seed(2024)
    torch.set_num_threads(1)
    cards = [5, 9, 12]
    full = synth(1000, cards, 4)
    tr, va = random_split(full, [800, 200])
    learner = Learner(TabularModel(cards, 4), opts.lr, torch.device("cpu"))
    final = learner.fit(DataLoader(tr, 40, shuffle=True), DataLoader(va, 200), opts.epochs)
    print("final loss:", final)
