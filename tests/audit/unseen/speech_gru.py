"""
Keyword spotting on fake "filterbank" features with a GRU.
Utterances are sorted into batches once, because bucketing is slow for the real data.
"""
import random
import torch
from torch import nn

ACCUM = 4
EPOCHS = 20


def fake_utterances(n, n_classes=5, n_mel=12):
    protos = torch.randn(n_classes, 8, n_mel)
    items = []
    for _ in range(n):
        label = random.randrange(n_classes)
        length = random.randint(8, 14)
        feats = torch.randn(length, n_mel) * 0.7
        feats[:8] += protos[label]
        items.append((feats, label))
    return items


def bucket(items, size):
    items = sorted(items, key=lambda it: it[0].shape[0])
    out = []
    for s in range(0, len(items), size):
        part = items[s:s + size]
        x = nn.utils.rnn.pad_sequence([f for f, _ in part], batch_first=True)
        y = torch.tensor([l for _, l in part])
        out.append((x, y))
    return out


class Spotter(nn.Module):
    def __init__(self, n_mel=12, hidden=32, n_classes=5):
        super().__init__()
        self.norm = nn.LayerNorm(n_mel)
        self.gru = nn.GRU(n_mel, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, n_classes)

    def forward(self, x):
        h, _ = self.gru(self.norm(x))
        return self.fc(h.mean(1))


class Trainer:
    def __init__(self, model, lr):
        self.model = model
        self.optimizer = torch.optim.RMSprop(model.parameters(), lr=lr)
        self.loss_fn = nn.CrossEntropyLoss()
        self.updates = 0

    def epoch(self, batches):
        self.model.train()
        order = random.sample(range(len(batches)), len(batches))
        total = 0.0
        for i, j in enumerate(order, 1):
            x, y = batches[j]
            loss = self.loss_fn(self.model(x), y)
            (loss / ACCUM).backward()
            total += loss.item()
            if i % ACCUM == 0:
                self.update()
        return total / len(batches)

    def update(self):
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.updates += 1


if __name__ == "__main__":
    random.seed(3)
    torch.manual_seed(3)
    torch.set_num_threads(1)
    batches = bucket(fake_utterances(160), 16)  # 10 batches
    t = Trainer(Spotter(), lr=2e-3)
    for e in range(EPOCHS):
        loss = t.epoch(batches)
        if e % 5 == 4:
            print(f"epoch {e + 1:2d} loss {loss:.4f} ({t.updates} updates)")
    print("final loss", loss)
