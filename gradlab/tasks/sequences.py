"""Built-in tasks on sequences: one that is cut into chunks, and many of unequal length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.tasks.task import Task, at_least_one

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import Tensor, nn

TOKENS = 8  # of the sequences of unequal length


def echo(seed: int, length: int = 200, chunk: int = 20, lag: int = 3, hidden: int = 16) -> Task:
    """Repeat a sequence `lag` steps later by an RNN, in chunks: truncated backpropagation through time.

    One sequence of `length` numbers −1 and 1, cut into chunks of `chunk`, which are the batches, in order: (which one,
    inputs, targets), of shapes (n, 1) both. The hidden state goes on from chunk to chunk, detached, and begins anew
    with the first chunk; so no gradient flows back over a cut. The loss is the squared error *summed* over a chunk:
    the gradient of a sum over chunks is the sum of their gradients, and `accumulate:N:sum`, N the number of chunks,
    takes one update for the whole sequence.

    Williams and Peng, An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent Network Trajectories,
    1990.
    """
    import torch
    from torch import nn

    at_least_one(length=length, chunk=chunk, lag=lag, hidden=hidden)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 2, (length, 1), generator=generator).float() * 2 - 1
    y = torch.cat([torch.zeros(lag, 1), x])[:length]
    starts = range(0, length, chunk)
    batches = [(nth, x[at : at + chunk], y[at : at + chunk]) for nth, at in enumerate(starts)]
    model = nn.ModuleDict({"rnn": nn.RNN(1, hidden), "out": nn.Linear(hidden, 1)})
    state: Tensor | None = None

    def loss(model: nn.ModuleDict, batch: tuple[int, Tensor, Tensor]) -> Tensor:
        nonlocal state
        nth, inputs, targets = batch
        seen, state = model["rnn"](inputs, None if nth == 0 else state)
        state = state.detach()  # the cut
        squares: Tensor = (model["out"](seen) - targets) ** 2
        return squares.sum()

    return Task(model, batches, loss)


def mixed_lengths(seed: int, sequences: int = 40, short: int = 4, long: int = 36, slips: float = 0.1) -> Task:
    """Predict the next token of sequences that count up when they are long and down when they are short.

    Half of the `sequences` have `short` transitions and half `long`; 8 tokens, counted modulo 8 from a random one, but
    a share `slips` of all tokens is drawn anew. A batch is one sequence, in a new order at each pass, and the loss a
    pair: the cross-entropy summed over its transitions, and their number. The model is a table: the logits of the next
    token for each token. It cannot know which kind of sequence it reads, so what it comes to say is how often each
    follows: by tokens 9 times in 10 the next one up, by sequences 1 time in 2.
    """
    import torch
    from torch import nn

    at_least_one(sequences=sequences, short=short, long=long)
    generator = torch.Generator().manual_seed(seed)
    data = [_counted(long if nth % 2 else short, 1 if nth % 2 else -1, slips, generator) for nth in range(sequences)]
    criterion = nn.CrossEntropyLoss(reduction="sum")

    def loss(model: nn.Module, tokens: Tensor) -> tuple[Tensor, int]:
        return criterion(model(tokens[:-1]), tokens[1:]), len(tokens) - 1

    return Task(nn.Embedding(TOKENS, TOKENS), _Shuffled(data, generator), loss)


class _Shuffled:
    """Batches in a new order at each pass."""

    def __init__(self, batches: list[Tensor], generator: torch.Generator) -> None:
        self.batches, self.generator = batches, generator

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Tensor]:
        import torch

        order = torch.randperm(len(self.batches), generator=self.generator)
        return (self.batches[nth] for nth in order.tolist())


def _counted(transitions: int, stride: int, slips: float, generator: torch.Generator) -> Tensor:
    """Return `transitions` + 1 tokens, each the one before plus `stride`, but a share `slips` of them drawn anew."""
    import torch

    drawn = torch.randint(0, TOKENS, (transitions + 1,), generator=generator)
    slipped = torch.rand(transitions + 1, generator=generator) < slips
    tokens = [int(drawn[0])]
    for nth in range(1, transitions + 1):
        tokens.append(int(drawn[nth]) if slipped[nth] else (tokens[-1] + stride) % TOKENS)
    return torch.tensor(tokens)
