"""Tiny character-level language model (LSTM) on a made-up text."""
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

TEXT = (
    "the quick brown fox jumps over the lazy dog. "
    "pack my box with five dozen liquor jugs. "
    "how vexingly quick daft zebras jump! "
) * 20

SEQ_LEN = 24
BATCH = 16
STEPS = 60


class CharLSTM(nn.Module):
    def __init__(self, vocab, dim=24, hidden=48):
        super().__init__()
        self.emb = nn.Embedding(vocab, dim)
        self.lstm = nn.LSTM(dim, hidden, batch_first=True)
        self.out = nn.Linear(hidden, vocab)

    def forward(self, x):
        h, _ = self.lstm(self.emb(x))
        return self.out(h)


def build_vocab(text):
    chars = sorted(set(text))
    stoi = {c: i for i, c in enumerate(chars)}
    return chars, stoi


def random_chunks(data, n):
    """Yields n batches of (input, target)."""
    for _ in range(n):
        starts = [random.randrange(len(data) - SEQ_LEN - 1) for _ in range(BATCH)]
        x = torch.stack([data[s:s + SEQ_LEN] for s in starts])
        y = torch.stack([data[s + 1:s + SEQ_LEN + 1] for s in starts])
        yield x, y


def main():
    random.seed(1337)
    torch.manual_seed(1337)
    torch.set_num_threads(1)
    chars, stoi = build_vocab(TEXT)
    data = torch.tensor([stoi[c] for c in TEXT])

    model = CharLSTM(len(chars))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    # start from clean gradients
    model.train()
    optimizer.zero_grad()

    for step, (x, y) in enumerate(random_chunks(data, STEPS), start=1):
        logits = model(x)
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            print(f"step {step:4d}  loss {loss.item():.4f}")

    # sample a few characters
    model.eval()
    idx = torch.tensor([[stoi["t"]]])
    with torch.no_grad():
        for _ in range(30):
            probs = model(idx)[:, -1].softmax(-1)
            idx = torch.cat([idx, torch.multinomial(probs, 1)], dim=1)
    print(repr("".join(chars[i] for i in idx[0].tolist())))
    print("final loss:", round(loss.item(), 4))


if __name__ == "__main__":
    main()
