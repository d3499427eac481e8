"""A training under the audit, against the same training without it: by default, and measured at each update.

The `digits` network and a small convolutional one, trained in this process by the loop that everybody writes, in
pairs that take turns; what counts is the median of the ratios, and the quartiles tell their spread. Goals: at most
1.05, and 1.2 at each update. CPU time is judged; wall time is shown too, which is noise on a shared machine.

    make bench        or        python -m tests.benchmarks.audit [PAIRS]
"""

from __future__ import annotations

import sys
import time
from statistics import median, quantiles
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from gradlab import audit, tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradlab import Task

GOALS = {None: 1.05, 1: 1.2}
NAMES = {None: "default sampling", 1: "each update"}


def digits() -> Task:
    """Return the built-in task."""
    torch.manual_seed(0)
    return tasks.BUILT_IN["digits"](0)


def convolutional() -> Task:
    """Return a network of two convolutions on random images of 16×16, in batches of 32."""
    torch.manual_seed(0)
    batches = [(torch.randn(32, 1, 16, 16), torch.randint(10, (32,))) for _ in range(20)]
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 144, 10)
    )
    return tasks.Task.supervised(model, batches, nn.CrossEntropyLoss())


class Timed(NamedTuple):
    """A training: seconds of CPU and of wall time, and its losses."""

    cpu: float
    wall: float
    losses: list[float]


def train(make: Callable[[], Task], epochs: int) -> Timed:
    """Train by hand."""
    task, losses = make(), []
    optimizer = torch.optim.SGD(task.model.parameters(), lr=0.01)
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(epochs):
        for batch in task.batches:
            optimizer.zero_grad()
            loss = task.loss(task.model, batch)
            assert isinstance(loss, torch.Tensor)
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not say
            optimizer.step()
            losses.append(loss.item())
    return Timed(time.process_time() - cpu, time.perf_counter() - wall, losses)


def ratios(make: Callable[[], Task], epochs: int, sample: int | None, *, swapped: bool) -> tuple[float, float]:
    """Return the time under the audit over the time without, of one pair: of CPU, and on the wall."""

    def watched() -> Timed:
        with audit.watch(sample) as report:
            found = train(make, epochs)
        assert not report.history.faults
        return found

    if swapped:
        ours, own = watched(), train(make, epochs)
    else:
        own, ours = train(make, epochs), watched()
    assert ours.losses == own.losses, "the audit has changed the training"
    return ours.cpu / own.cpu, ours.wall / own.wall


def main() -> int:
    """Measure both trainings at both samplings and print a line each."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 41
    torch.set_num_threads(1)
    missed = False
    for name, make, epochs in (("digits", digits, 70), ("a small convolutional net", convolutional, 100)):
        for sample, goal in GOALS.items():
            ratios(make, 1, sample, swapped=False)  # warm up
            found = [ratios(make, epochs, sample, swapped=nth % 2 == 1) for nth in range(pairs)]
            cpu, wall = zip(*found, strict=True)
            low, _, high = quantiles(cpu, n=4)
            missed |= median(cpu) > goal
            print(  # noqa: T201 - a benchmark prints
                f"audit of {name}, {NAMES[sample]}: {median(cpu):.3f} times the CPU time without (goal {goal}; "
                f"{pairs} pairs, half of them {low:.3f} to {high:.3f}), {median(wall):.3f} times its wall time"
            )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
