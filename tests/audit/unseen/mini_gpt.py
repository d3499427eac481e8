import argparse
import math

import torch
import torch.nn as nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset


class Arithmetic(Dataset):
    """Sequences a, a+d, a+2d, ... modulo the vocabulary."""

    def __init__(self, n, vocab=17, length=12):
        self.vocab = vocab
        a = torch.randint(0, vocab, (n, 1))
        d = torch.randint(1, 5, (n, 1))
        self.seqs = (a + d * torch.arange(length)) % vocab

    def __len__(self):
        return self.seqs.size(0)

    def __getitem__(self, i):
        s = self.seqs[i]
        return s[:-1], s[1:]


class GPT(nn.Module):
    def __init__(self, vocab, width=32, heads=2, depth=1, ctx=16):
        super().__init__()
        self.tok = nn.Embedding(vocab, width)
        self.pos = nn.Parameter(torch.randn(ctx, width) / math.sqrt(width))
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Linear(width, vocab)

    def forward(self, idx):
        t = idx.size(1)
        mask = nn.Transformer.generate_square_subsequent_mask(t)
        x = self.tok(idx) + self.pos[:t]
        return self.head(self.blocks(x, mask=mask))


def get_args():
    p = argparse.ArgumentParser()
    p.add_argument("--epochs", type=int, default=5)
    p.add_argument("--micro-batch", type=int, default=8)
    p.add_argument("--grad-accum", type=int, default=4)
    p.add_argument("--grad-clip", type=float, default=1.0)
    p.add_argument("--lr", type=float, default=0.05)
    return p.parse_args()


def main():
    args = get_args()
    torch.manual_seed(42)
    torch.set_num_threads(1)
    data = Arithmetic(256)
    loader = DataLoader(data, batch_size=args.micro_batch, shuffle=True, drop_last=True)
    model = GPT(data.vocab)
    opt = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, nesterov=True)
    print(f"{sum(p.numel() for p in model.parameters())} parameters")

    for epoch in range(args.epochs):
        epoch_loss = 0.0
        opt.zero_grad(set_to_none=True)
        for micro_step, (x, y) in enumerate(loader):
            logits = model(x)
            loss = F.cross_entropy(logits.reshape(-1, data.vocab), y.reshape(-1))
            loss.backward()
            epoch_loss += loss.item()
            if (micro_step + 1) % args.grad_accum == 0:
                nn.utils.clip_grad_norm_(model.parameters(), args.grad_clip)
                opt.step()
                opt.zero_grad(set_to_none=True)
        print(f"epoch {epoch}: {epoch_loss / len(loader):.4f}")
    print(f"final loss: {epoch_loss / len(loader):.4f}")


if __name__ == "__main__":
    main()
