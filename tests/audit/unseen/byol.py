"""Self-supervised pretraining a la BYOL on vectors, then a linear probe."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from byol_model import BYOL

CFG = {"epochs": 6, "batch": 32, "lr": 0.05, "tau": 0.98, "dim": 24, "classes": 5, "n": 512}


def toy(n, dim, classes):
    c = torch.randn(classes, dim) * 1.5
    y = torch.randint(0, classes, (n,))
    return c[y] + 0.5 * torch.randn(n, dim), y


def augment(x):
    mask = (torch.rand_like(x) > 0.2).float()
    return x * mask + 0.1 * torch.randn_like(x)


def pretrain(model, x, cfg):
    opt = torch.optim.SGD(model.trainable(), lr=cfg["lr"], momentum=0.9, weight_decay=1e-4)
    loader = DataLoader(x, batch_size=cfg["batch"], shuffle=True, drop_last=True)
    for epoch in range(cfg["epochs"]):
        total = 0.0
        for xb in loader:
            v1, v2 = augment(xb), augment(xb)
            loss = model.loss(v1, v2) + model.loss(v2, v1)
            opt.zero_grad()
            loss.backward()
            opt.step()
            model.update_target(cfg["tau"])
            total += loss.item()
        print(f"byol epoch {epoch}: {total / len(loader):.4f}")
    return total / len(loader)


def probe(encoder, x, y, classes, steps=60):
    with torch.no_grad():
        feats = encoder(x)
    clf = nn.Linear(feats.shape[1], classes)
    opt = torch.optim.Adam(clf.parameters(), lr=0.02)
    for _ in range(steps):
        loss = F.cross_entropy(clf(feats), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    acc = (clf(feats).argmax(1) == y).float().mean().item()
    return loss.item(), acc


def main():
    torch.manual_seed(50)
    torch.set_num_threads(1)
    x, y = toy(CFG["n"], CFG["dim"], CFG["classes"])
    model = BYOL(CFG["dim"])
    pretrain(model, x, CFG)
    loss, acc = probe(model.online, x, y, CFG["classes"])
    print(f"probe acc {acc:.3f}")
    print(f"final loss {loss:.4f}")


if __name__ == "__main__":
    main()
