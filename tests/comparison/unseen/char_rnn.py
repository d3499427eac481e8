"""Character-level LSTM language model, trained by truncated backpropagation through time."""

import argparse
import math
import os
import time

import torch
import torch.nn as nn

JABBERWOCKY = """
'Twas brillig, and the slithy toves
Did gyre and gimble in the wabe:
All mimsy were the borogoves,
And the mome raths outgrabe.

"Beware the Jabberwock, my son!
The jaws that bite, the claws that catch!
Beware the Jubjub bird, and shun
The frumious Bandersnatch!"

He took his vorpal sword in hand;
Long time the manxome foe he sought-
So rested he by the Tumtum tree
And stood awhile in thought.

And, as in uffish thought he stood,
The Jabberwock, with eyes of flame,
Came whiffling through the tulgey wood,
And burbled as it came!

One, two! One, two! And through and through
The vorpal blade went snicker-snack!
He left it dead, and with its head
He went galumphing back.

"And hast thou slain the Jabberwock?
Come to my arms, my beamish boy!
O frabjous day! Callooh! Callay!"
He chortled in his joy.

'Twas brillig, and the slithy toves
Did gyre and gimble in the wabe:
All mimsy were the borogoves,
And the mome raths outgrabe.
"""


class Corpus:
    """Maps characters to ids; splits a text into training and validation parts."""

    def __init__(self, text, valid_share=0.12):
        self.chars = sorted(set(text))
        self.index = {c: i for i, c in enumerate(self.chars)}
        ids = torch.tensor([self.index[c] for c in text])
        cut = int(len(ids) * (1 - valid_share))
        self.train, self.valid = ids[:cut], ids[cut:]

    def decode(self, ids):
        return "".join(self.chars[i] for i in ids)


class CharRNN(nn.Module):
    def __init__(self, vocab, emsize, nhid, nlayers, dropout):
        super().__init__()
        self.nlayers, self.nhid = nlayers, nhid
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(vocab, emsize)
        self.rnn = nn.LSTM(emsize, nhid, nlayers, dropout=dropout)
        self.decoder = nn.Linear(nhid, vocab)
        self.init_weights()

    def init_weights(self):
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)

    def forward(self, x, hidden):
        output, hidden = self.rnn(self.drop(self.encoder(x)), hidden)
        return self.decoder(self.drop(output)), hidden

    def init_hidden(self, bsz):
        weight = next(self.parameters())
        return (
            weight.new_zeros(self.nlayers, bsz, self.nhid),
            weight.new_zeros(self.nlayers, bsz, self.nhid),
        )


def batchify(data, bsz):
    """Cut data into bsz columns, dropping the rest."""
    nbatch = data.size(0) // bsz
    return data[: nbatch * bsz].view(bsz, -1).t().contiguous()


def get_batch(source, i, bptt):
    seq_len = min(bptt, len(source) - 1 - i)
    return source[i : i + seq_len], source[i + 1 : i + 1 + seq_len].reshape(-1)


def repackage_hidden(h):
    """Detach hidden states from their history."""
    if isinstance(h, torch.Tensor):
        return h.detach()
    return tuple(repackage_hidden(v) for v in h)


def evaluate(model, criterion, source, bptt):
    model.eval()
    total = 0.0
    hidden = model.init_hidden(source.size(1))
    with torch.no_grad():
        for i in range(0, source.size(0) - 1, bptt):
            data, targets = get_batch(source, i, bptt)
            output, hidden = model(data, hidden)
            total += len(data) * criterion(output.flatten(0, 1), targets).item()
    return total / (len(source) - 1)


def train_epoch(model, criterion, optimizer, source, args):
    model.train()
    total = 0.0
    hidden = model.init_hidden(source.size(1))
    for i in range(0, source.size(0) - 1, args.bptt):
        data, targets = get_batch(source, i, args.bptt)
        hidden = repackage_hidden(hidden)
        output, hidden = model(data, hidden)
        loss = criterion(output.flatten(0, 1), targets)
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        total += len(data) * loss.item()
    return total / (len(source) - 1)


@torch.no_grad()
def sample(model, corpus, length, temperature=0.7):
    model.eval()
    hidden = model.init_hidden(1)
    x = torch.tensor([[corpus.index["\n"]]])
    out = []
    for _ in range(length):
        logits, hidden = model(x, hidden)
        x = torch.multinomial((logits[0] / temperature).softmax(-1), 1)
        out.append(x.item())
    return corpus.decode(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="text file; default: a poem")
    parser.add_argument("--emsize", type=int, default=24)
    parser.add_argument("--nhid", type=int, default=64)
    parser.add_argument("--nlayers", type=int, default=2)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--clip", type=float, default=0.5)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--bptt", type=int, default=20)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1111)
    parser.add_argument("--save", default="char_rnn.pt")
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    if args.data:
        with open(args.data, encoding="utf-8") as f:
            text = f.read()
    else:
        text = JABBERWOCKY.lstrip()
    corpus = Corpus(text)
    train_data = batchify(corpus.train, args.batch_size)
    val_data = batchify(corpus.valid, 1)

    model = CharRNN(len(corpus.chars), args.emsize, args.nhid, args.nlayers, args.dropout)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2)

    best = math.inf
    for epoch in range(1, args.epochs + 1):
        start = time.time()
        train_loss = train_epoch(model, criterion, optimizer, train_data, args)
        val_loss = evaluate(model, criterion, val_data, args.bptt)
        scheduler.step(val_loss)
        if epoch % 5 == 0:
            print(
                f"| epoch {epoch:3d} | {time.time() - start:.2f} s | train {train_loss:.3f} "
                f"| valid {val_loss:.3f} | lr {optimizer.param_groups[0]['lr']:.1e}"
            )
        if val_loss < best:
            best = val_loss
            torch.save(model.state_dict(), args.save)

    model.load_state_dict(torch.load(args.save))
    print(sample(model, corpus, 120))
    print(f"checkpoint of {os.path.getsize(args.save)} bytes")
    val_loss = evaluate(model, criterion, val_data, args.bptt)
    print(f"valid loss {val_loss:.4f} | valid ppl {math.exp(val_loss):.3f}")


if __name__ == "__main__":
    main()
