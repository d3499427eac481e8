"""The built-in tasks."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import chain, repeat
from typing import TYPE_CHECKING

from gradlab.errors import TaskError, unknown
from gradlab.tasks.task import Minibatches, Task, at_least_one

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from torch import Tensor, nn

TOKENS = 8  # size of the vocabulary of `mixed_lengths`
# The inputs of `two_weights`: every pair of a steep and a gentle coordinate. The squares of each average 1.
STEEP = (-math.sqrt(2.5), -math.sqrt(0.1), math.sqrt(0.4), 1.0)
GENTLE = (math.sqrt(0.4), -math.sqrt(0.4), math.sqrt(1.6), -math.sqrt(1.6))


def noisy_line(seed: int, inputs: int = 1, samples: int = 40, batch_size: int = 1, noise: float = 1.0) -> Task:
    """Linear regression with label noise, in mini-batches, with squared error.

    y = w·x + b + noise·ε, where w, b, ε and the `inputs` components of x are standard normal. Batches are reshuffled
    every epoch.
    """
    import torch
    from torch import nn

    at_least_one(inputs=inputs, samples=samples)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, inputs, generator=generator)
    weight, bias = torch.randn(inputs, 1, generator=generator), torch.randn(1, generator=generator)
    y = x @ weight + bias + noise * torch.randn(samples, 1, generator=generator)
    return Task.supervised(nn.Linear(inputs, 1), Minibatches(x, y, batch_size, generator), nn.MSELoss())


def straight_line(seed: int, loss: str = "l1") -> Task:  # noqa: ARG001 - the weights come from the seeded generator
    """Fit 0.7·x + 0.3 at 40 points in [0, 0.8), full batch; `loss` is l1 or mse.

    The points are 0, 0.02, …, 0.78.
    """
    import torch
    from torch import nn

    criteria: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": nn.L1Loss(), "mse": nn.MSELoss()}
    if loss not in criteria:
        raise TaskError(unknown("loss", loss, criteria))
    x = torch.arange(0, 1, 0.02).unsqueeze(1)
    y = 0.7 * x + 0.3
    return Task.supervised(nn.Linear(1, 1), [(x[:40], y[:40])], criteria[loss])


def digits(seed: int, hidden: int = 32, batch_size: int = 64) -> Task:
    """Classify scikit-learn's 1,797 handwritten digits with a small MLP and cross-entropy.

    8×8 pixels scaled to [0, 1], `hidden` ReLU units, 10 classes. All images are training data, so the metric
    `accuracy` is the share of training images that the model classifies correctly.
    """
    import torch
    from torch import nn

    at_least_one(hidden=hidden)
    pixels, labels = _digits()
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))
    batches = Minibatches(pixels, labels, batch_size, generator)
    return Task.supervised(model, batches, nn.CrossEntropyLoss(), metrics={"accuracy": _correct})


def linear_4x3(seed: int, samples: int = 100, noise: float = 0.1) -> Task:
    """Fit y = x·W + b with a 4×3 matrix W, one sample at a time, with squared error summed over the three outputs.

    x, W, b and the label noise ε are standard normal; y includes noise·ε. The model's initial weights are drawn
    separately. A batch is one sample, x of shape (4,) and y of shape (3,). Samples keep their order.
    """
    import torch
    from torch import nn

    at_least_one(samples=samples)
    generator = torch.Generator().manual_seed(seed)
    x, weight, bias = (torch.randn(*shape, generator=generator) for shape in [(samples, 4), (4, 3), (3,)])
    y = x @ weight + bias + noise * torch.randn(samples, 3, generator=generator)
    model = nn.Linear(4, 3)  # stores W transposed
    nn.init.normal_(model.weight)
    nn.init.normal_(model.bias)
    return Task.supervised(model, list(zip(x, y, strict=True)), nn.MSELoss(reduction="sum"))


def heads_in_turn(
    seed: int,
    heads: int = 8,
    inputs: int = 4,
    hidden: int = 16,
    batch_size: int = 16,
    rounds: int = 10,
    noise: float = 0.1,
) -> Task:
    """Learn `heads` linear functions with a shared hidden layer and one output head per function, one head per batch.

    The gradient of an unused head is None after `zero_grad`, so the optimizer skips it. After `zero_grad:fill` it is
    zero, so momentum and weight decay still move the head. The same happens in multi-task training.

    Batches are (head, x, y) with x of shape (batch_size, inputs). An epoch repeats the same `heads` batches `rounds`
    times. y = x·w + noise·ε, where x, ε and each head's w are standard normal.
    """
    import torch
    from torch import nn

    at_least_one(heads=heads, inputs=inputs, hidden=hidden, batch_size=batch_size, rounds=rounds)
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for head in range(heads):
        x, weight = torch.randn(batch_size, inputs, generator=generator), torch.randn(inputs, 1, generator=generator)
        batches.append((head, x, x @ weight + noise * torch.randn(batch_size, 1, generator=generator)))
    shared = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh())
    model = nn.ModuleDict({"shared": shared, "heads": nn.ModuleList(nn.Linear(hidden, 1) for _ in range(heads))})

    def loss(model: nn.ModuleDict, batch: tuple[int, Tensor, Tensor]) -> Tensor:
        head, x, y = batch
        used: nn.Module = model["heads"][head]  # type: ignore[index]  # a ModuleList
        squares: Tensor = (used(model["shared"](x)) - y) ** 2
        return squares.mean()

    return Task(model, batches * rounds, loss)


def echo(seed: int, length: int = 200, chunk: int = 20, lag: int = 3, hidden: int = 16) -> Task:
    """Repeat a sequence with a delay of `lag` steps, with an RNN and truncated backpropagation through time.

    One sequence of `length` numbers −1 and 1 is cut into chunks of `chunk` numbers. A batch is one chunk: (number of
    the chunk, inputs, targets), the last two of shape (n, 1). The hidden state is passed on to the next chunk, but
    detached, so no gradient flows between chunks. The first chunk resets it.

    The loss is the squared error *summed* over a chunk. So the gradient of the whole sequence is the sum of the
    chunks' gradients, and `accumulate:N:sum` with N chunks takes one update per sequence.

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
        state = state.detach()  # cuts the graph between chunks
        squares: Tensor = (model["out"](seen) - targets) ** 2
        return squares.sum()

    return Task(model, batches, loss)


def mixed_lengths(seed: int, sequences: int = 40, short: int = 4, long: int = 36, slips: float = 0.1) -> Task:
    """Predict the next token of sequences that count up if they are long and down if they are short.

    Half of the `sequences` have `long` transitions, half `short`. Sequences start at a random token and count modulo
    8; a share `slips` of all tokens is random. A batch is one sequence, in a new order every epoch. The loss is a
    pair: the cross-entropy summed over the transitions, and their number.

    The model is a table with the logits of the next token for every token. It cannot see the kind of sequence, so it
    learns how often each token follows. Weighted by tokens, 9 of 10 count up; weighted by sequences, 1 of 2.
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


def two_weights(
    seed: int,
    batch_size: int = 1,
    noise: float = 0.5,
    curvature: float = 8.0,
    rounds: int = 1,
    w1: float = -1.5,
    w2: float = 1.5,
) -> Task:
    """Linear regression with two weights in float64: what `gradlab explore` shows.

    y = x₁ + x₂/2 + noise·ε at 16 points, with squared error. Each ε is a sum of 12 uniform numbers minus 6, close to
    standard normal. Training starts at the weights (`w1`, `w2`). On full batches, the Hessian has the eigenvalues
    `curvature` along (0.8, 0.6) and 1 across it. Single samples have other curvatures.

    An epoch repeats the samples `rounds` times, in a new order each time. If the windows of an accumulation do not fit
    into one round, choose `rounds` so that they fit.
    """
    import torch
    from torch import nn

    at_least_one(rounds=rounds)
    if not curvature > 0:
        raise TaskError(f"task option curvature must be positive, got {curvature}")
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(12, 16, generator=generator).double()
    steep, gentle = math.sqrt(curvature / 2), math.sqrt(0.5)
    along = [(steep * a, gentle * b) for a in STEEP for b in GENTLE]
    points = [(0.8 * a - 0.6 * b, 0.6 * a + 0.8 * b) for a, b in along]
    errors = (uniform.sum(0) - 6).tolist()  # exact, as all are multiples of 2⁻²⁴
    targets = [x1 + 0.5 * x2 + noise * error for (x1, x2), error in zip(points, errors, strict=True)]
    x, y = torch.tensor(points, dtype=torch.float64), torch.tensor(targets, dtype=torch.float64).unsqueeze(1)
    model = nn.Linear(2, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[w1, w2]], dtype=torch.float64))
    batches = Minibatches(x, y, batch_size, generator)
    return Task.supervised(model, batches if rounds == 1 else _Rounds(batches, rounds), nn.MSELoss())


BUILT_IN: dict[str, Callable[..., Task]] = {
    each.__name__: each
    for each in (noisy_line, straight_line, linear_4x3, digits, heads_in_turn, echo, mixed_lengths, two_weights)
}


@lru_cache(maxsize=1)
def _digits() -> tuple[Tensor, Tensor]:
    import torch

    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise TaskError("task 'digits' needs scikit-learn: pip install scikit-learn") from None
    data = load_digits()
    return torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target, dtype=torch.long)


def _correct(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, int]:
    """Return the number of rows whose largest output is their label, and the number of rows."""
    inputs, labels = batch
    return (model(inputs).argmax(1) == labels).sum(), len(labels)


class _Rounds:
    """Several passes over mini-batches as one."""

    def __init__(self, batches: Minibatches, rounds: int) -> None:
        self.batches, self.rounds = batches, rounds

    def __len__(self) -> int:
        return self.rounds * len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return chain.from_iterable(repeat(self.batches, self.rounds))


class _Shuffled:
    """Batches in a new order every pass."""

    def __init__(self, batches: list[Tensor], generator: torch.Generator) -> None:
        self.batches, self.generator = batches, generator

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Tensor]:
        import torch

        order = torch.randperm(len(self.batches), generator=self.generator)
        return (self.batches[nth] for nth in order.tolist())


def _counted(transitions: int, stride: int, slips: float, generator: torch.Generator) -> Tensor:
    """Return `transitions` + 1 tokens that count by `stride`; a share `slips` of them is random."""
    import torch

    drawn = torch.randint(0, TOKENS, (transitions + 1,), generator=generator)
    slipped = torch.rand(transitions + 1, generator=generator) < slips
    tokens = [int(drawn[0])]
    for nth in range(1, transitions + 1):
        tokens.append(int(drawn[nth]) if slipped[nth] else (tokens[-1] + stride) % TOKENS)
    return torch.tensor(tokens)
