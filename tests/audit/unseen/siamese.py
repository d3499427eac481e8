"""Siamese network with a contrastive loss on pairs of noisy vectors."""
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

SEED = 4
N_IDS = 12
DIM = 20
MARGIN = 1.0
UPDATES = 25

random.seed(SEED)
torch.manual_seed(SEED)


class Gallery:
    """A few pictures (vectors) of every identity."""

    def __init__(self, per_id=6):
        centres = torch.randn(N_IDS, 1, DIM)
        self.pics = centres + 0.4 * torch.randn(N_IDS, per_id, DIM)
        self.per_id = per_id

    def pick(self, ident):
        return self.pics[ident, random.randrange(self.per_id)]

    def pairs(self, n):
        left, right, same = [], [], []
        for _ in range(n):
            i = random.randrange(N_IDS)
            if random.random() < 0.5:
                j = i
            else:
                j = random.choice([k for k in range(N_IDS) if k != i])
            left.append(self.pick(i))
            right.append(self.pick(j))
            same.append(float(i == j))
        return torch.stack(left), torch.stack(right), torch.tensor(same)


class Embedder(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(DIM, 32)
        self.fc2 = nn.Linear(32, 8)

    def forward(self, x):
        return self.fc2(F.leaky_relu(self.fc1(x)))


def contrastive_loss(a, b, same):
    dist = torch.sqrt((a - b).pow(2).sum(1))
    pull = same * dist.pow(2)
    push = (1 - same) * F.relu(MARGIN - dist).pow(2)
    return (pull + push).mean()


gallery = Gallery()
net = Embedder()
opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)

for update in range(UPDATES):
    a, b, same = gallery.pairs(48)
    opt.zero_grad()
    loss = contrastive_loss(net(a), net(b), same)
    loss.backward()
    opt.step()
    if update % 5 == 0:
        print(update, loss.item())

print("final loss", loss.item())
