"""A user's file with an optimizer, schedules and tasks, as several tests write it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gradlab import experiment as experiments
from gradlab import runs, store
from gradlab.experiment import Override
from tests.making import RecordingProgress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradlab.analysis.results import ExperimentResult
    from gradlab.experiment import Experiment
    from gradlab.rows import Row

SOURCE = '''
import math
import torch
from torch import nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, LinearLR, ReduceLROnPlateau, SequentialLR
from gradlab import Task
from gradlab.tasks import Minibatches


class Lion(Optimizer):
    """Chen et al., Symbolic Discovery of Optimization Algorithms, 2023."""

    def __init__(self, params, lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0):
        if weight_decay < 0:
            raise ValueError(f"weight_decay is negative: {weight_decay}")
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            first, second = group["betas"]
            for w in group["params"]:
                if w.grad is None:
                    continue
                state = self.state[w]
                average = state.setdefault("average", torch.zeros_like(w))
                w.mul_(1 - group["lr"] * group["weight_decay"])
                w.sub_(group["lr"] * torch.sign(first * average + (1 - first) * w.grad))
                average.mul_(second).add_(w.grad, alpha=1 - second)


class Scaled(Lion):
    """Divides by the norm of the whole tensor, so stacking changes it."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is not None:
                    w.sub_(group["lr"] * w.grad / (w.grad.norm() + 1e-9))


class Noisy(Lion):
    """Draws from a generator of its own, and counts its steps beside the parameters."""

    def __init__(self, params, lr: float = 0.1):
        super().__init__(params, lr)
        self.generator = torch.Generator().manual_seed(3)

    @torch.no_grad()
    def step(self, closure=None):
        steps = self.state["steps"] = self.state.get("steps", 0) + 1
        for group in self.param_groups:
            for w in group["params"]:
                w.sub_(group["lr"] * (w.grad + torch.randn(w.shape, generator=self.generator) / steps))


class Deaf(Lion):
    """Reads lr from itself, not from the groups."""

    def __init__(self, params, lr):
        super().__init__(params, lr)
        self.own_lr = lr

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for w in group["params"]:
                w.sub_(self.own_lr * w.grad)


class Decaying(Lion):
    """Decays matrices only, as many training scripts do."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for w in group["params"]:
                w.sub_(group["lr"] * (w.grad + (w if w.dim() > 1 else 0)))


class Stepless(Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})


class Closing(Lion):
    def step(self, closure):
        closure()


class Fixed(Lion):
    def __init__(self, params, momentum: float):
        super().__init__(params)


class Averaged(Adam):
    pass


class Options(Lion):
    def __init__(self, params, lr, *, rho: int | float, levels: list[int] = (), kind: str = "a", **more):
        super().__init__(params, lr)


class NoOptimizer:
    pass


def warmup(optimizer, steps: int, total_steps: int = 0, gamma: float = 0.5):
    """Up in `steps` steps, then down; the last of all steps has lr / 100."""
    first = LinearLR(optimizer, 0.5, total_iters=steps)
    second = LambdaLR(optimizer, lambda step: 0.01 if steps + step == total_steps - 1 else gamma**step)
    return SequentialLR(optimizer, [first, second], [steps])


def nothing(optimizer):
    return None


def plateau(optimizer):
    return ReduceLROnPlateau(optimizer)


def unsaved(optimizer):
    made = ExponentialLR(optimizer, 0.5)
    made.shape = lambda step: step
    return made


def broken(optimizer):
    return 1 // 0


class Unsized:
    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def slope(seed, batches: int = 5, sized: bool = True):
    """The loss is the weight, and its gradient 1: an update of SGD lowers the loss by lr."""
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(model.weight)
    drawn = [torch.ones(1)] * batches
    return Task(model, drawn if sized else Unsized(drawn), lambda model, batch: model.weight.sum())


def net(seed):
    drawn = torch.Generator().manual_seed(seed)
    x, y = torch.randn(11, 3, generator=drawn).double(), torch.randn(11, 1, generator=drawn).double()
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    return Task.supervised(model, Minibatches(x, y, 3, drawn), nn.MSELoss())
'''


def chosen(task: str = "slope", /, **values: Any) -> Experiment:
    """Return an experiment on a task of the file `mine.py`, which is written here. A key of a table has two _."""
    Path("mine.py").write_text(SOURCE)
    end = {} if "steps" in values else {"epochs": 4}
    given = {"modes": ["zero_grad"], "seeds": [1], "optimizer__lr": 0.5, **end, **values}
    return experiments.from_task(f"mine.py:{task}", overrides(given))


def overrides(values: Mapping[str, Any]) -> list[Override]:
    """Return the overrides of these keys, whose tables are separated by two _."""
    return [Override(tuple(key.split("__")), value, key) for key, value in values.items()]


def rows_of(experiment: Experiment, out: str = "runs") -> list[list[Row]]:
    """Train an experiment; return the rows of each run."""
    return done(runs.run(experiment, Path(out)))


def done(outcome: ExperimentResult) -> list[list[Row]]:
    assert [run.status for run in outcome.runs] == ["done"] * len(outcome.runs)
    return [run.rows for run in outcome.runs]


def rates_of(rows: list[Row]) -> list[float]:
    """Return by how much each update but the last lowered the loss of `slope`: with SGD, its lr."""
    losses = [row.loss for nth, row in enumerate(rows) if nth == 0 or row.update != rows[nth - 1].update]
    return [before - after for before, after in pairwise(losses)]


def stop_after(experiment: Experiment, step: int, out: str = "runs", *, message: str = "") -> None:
    """Train until this number of steps of the first run or stack, and stop with a checkpoint.

    The error must match `message`, by default that it stopped after these steps.
    """
    stop, append = runs.Stop(), store.RowLog.append

    def appended(log: store.RowLog, row: Row) -> None:
        append(log, row)
        stop.requested = row.step + 1 == step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.RowLog, "append", appended)
        with pytest.raises(runs.StoppedError, match=message or f"stopped after {step} steps"):
            runs.run(experiment, Path(out), stop=stop)


def continued(experiment: Experiment, step: int, out: str = "runs") -> list[list[Row]]:
    """Train on from that checkpoint; return the rows of each run."""
    progress = RecordingProgress()
    rows = done(runs.run(experiment, Path(out), progress=progress))
    assert progress.messages == []
    assert progress.done_steps == [step]
    return rows
