"""The tasks that come with gradlab."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from gradlab.errors import TaskError, unknown
from gradlab.tasks.heads import heads_in_turn
from gradlab.tasks.sequences import echo, mixed_lengths
from gradlab.tasks.task import Minibatches, Task, at_least_one

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def noisy_line(seed: int, inputs: int = 1, samples: int = 40, batch_size: int = 1, noise: float = 1.0) -> Task:
    """Linear regression with label noise, in mini-batches, by squared error.

    y = w·x + b + noise·ε, with w, b, ε and the `inputs` components of x standard normal; the batches are reshuffled at
    each epoch.
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
    """Fit 0.7·x + 0.3 at 40 points of [0, 0.8), full batch; `loss` is l1 or mse.

    The points are the first 40 of the 50 from 0 to 0.98 in steps of 0.02.
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
    """Classify scikit-learn's 1,797 handwritten digits by a small MLP, by cross-entropy.

    8×8 pixels scaled to [0, 1], `hidden` units with ReLU, 10 classes; all images train.
    """
    import torch
    from torch import nn

    at_least_one(hidden=hidden)
    pixels, labels = _digits()
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))
    return Task.supervised(model, Minibatches(pixels, labels, batch_size, generator), nn.CrossEntropyLoss())


def linear_4x3(seed: int, samples: int = 100, noise: float = 0.1) -> Task:
    """Fit y = x·W + b, W 4×3 and b of 3, one sample at a time, by squared error, summed over the three outputs.

    x is standard normal, as are the W and b that y is made with, to which comes noise·ε; the model starts from others.
    A batch is one sample, x of shape (4,) and y of shape (3,), always in the same order.
    """
    import torch
    from torch import nn

    at_least_one(samples=samples)
    generator = torch.Generator().manual_seed(seed)
    x, weight, bias = (torch.randn(*shape, generator=generator) for shape in [(samples, 4), (4, 3), (3,)])
    y = x @ weight + bias + noise * torch.randn(samples, 3, generator=generator)
    model = nn.Linear(4, 3)  # holds W transposed
    nn.init.normal_(model.weight)
    nn.init.normal_(model.bias)
    return Task.supervised(model, list(zip(x, y, strict=True)), nn.MSELoss(reduction="sum"))


BUILT_IN: dict[str, Callable[..., Task]] = {
    each.__name__: each for each in (noisy_line, straight_line, linear_4x3, digits, heads_in_turn, echo, mixed_lengths)
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
