"""Sequence tagging with padding. Loss is a sum over tokens; a window of
batches is normalised by the number of real tokens in it."""
import random

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

PAD = 0
N_TAGS = 4


class Sentences(Dataset):
    def __init__(self, n, vocab=60):
        rng = random.Random(17)
        self.items = []
        for _ in range(n):
            words = [rng.randrange(1, vocab) for _ in range(rng.randint(3, 20))]
            # the tag depends on the word and on the one before
            tags = [1 + (w + prev) % 2 + 2 * (w % 3 == 0) for w, prev in zip(words, [0] + words)]
            tags = [min(t, N_TAGS) for t in tags]
            self.items.append((torch.tensor(words), torch.tensor(tags)))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def collate(items):
    words, tags = zip(*items)
    return pad_sequence(words, True, PAD), pad_sequence(tags, True, PAD)


class Tagger(nn.Module):
    def __init__(self, vocab=60, dim=24, hidden=24):
        super().__init__()
        self.emb = nn.Embedding(vocab, dim, padding_idx=PAD)
        self.rnn = nn.GRU(dim, hidden, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * hidden, N_TAGS + 1)

    def forward(self, words):
        return self.out(self.rnn(self.emb(words))[0])


class Accumulator:
    def __init__(self, model, optimizer, every, max_norm):
        self.model, self.optimizer = model, optimizer
        self.every, self.max_norm = every, max_norm
        self.batches = self.tokens = 0

    def add(self, loss_sum, n_tokens):
        loss_sum.backward()
        self.batches += 1
        self.tokens += n_tokens
        if self.batches == self.every:
            self.flush()

    def flush(self):
        if self.batches == 0:
            return
        for p in self.model.parameters():
            p.grad.div_(self.tokens)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.batches = self.tokens = 0


def main():
    torch.manual_seed(17)
    torch.set_num_threads(1)
    loader = DataLoader(Sentences(168), batch_size=12, shuffle=True, collate_fn=collate)
    model = Tagger()
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.05)
    loss_fn = nn.CrossEntropyLoss(ignore_index=PAD, reduction="sum")
    acc = Accumulator(model, optimizer, every=4, max_norm=0.5)
    for epoch in range(12):
        total = count = 0
        for words, tags in loader:
            loss = loss_fn(model(words).transpose(1, 2), tags)
            n = int((tags != PAD).sum())
            acc.add(loss, n)
            total += loss.item()
            count += n
        acc.flush()  # the rest of the epoch
        if epoch % 3 == 2:
            print(f"epoch {epoch + 1}: {total / count:.4f} per token")
    print(f"final loss {total / count:.4f}")


if __name__ == "__main__":
    main()
