"""The tasks of the benchmarks: a network 2-32-32-2 with batches of 32, and `digits` without its metric."""

from dataclasses import replace

import torch
from torch import nn

from gradlab import Task
from gradlab.tasks import BUILT_IN, Minibatches


def mlp(seed: int, samples: int = 1024) -> Task:
    """Tell the inside of a circle from its outside."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, 2, generator=generator)
    y = (x.square().sum(1) > 1.4).long()
    model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
    return Task.supervised(model, Minibatches(x, y, 32, generator), nn.CrossEntropyLoss())


def digits(seed: int) -> Task:
    """Return the built-in task, which then is trained without evaluations."""
    return replace(BUILT_IN["digits"](seed), metrics={})
