"""A training under the audit, against the same training without it: by default, and measured at each update.

The `digits` network and a small convolutional one, trained in this process by the loop that everybody writes, in
pairs that take turns; what counts is the median of the ratios of wall time. Goals: at most 1.05, and 1.3 at each update.

    make bench        or        python -m tests.benchmarks.audit [PAIRS]
"""

from __future__ import annotations

import sys
import time
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch import nn

from gradlab import audit, tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradlab import Task

GOALS = {None: 1.05, 1: 1.3}
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


def train(make: Callable[[], Task], epochs: int) -> tuple[float, list[float]]:
    """Train, and return the seconds of wall time that it took and the losses."""
    task, losses = make(), []
    optimizer = torch.optim.SGD(task.model.parameters(), lr=0.01)
    begun = time.perf_counter()
    for _ in range(epochs):
        for batch in task.batches:
            optimizer.zero_grad()
            loss = task.loss(task.model, batch)
            assert isinstance(loss, torch.Tensor)
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not say
            optimizer.step()
            losses.append(loss.item())
    return time.perf_counter() - begun, losses


def ratio(make: Callable[[], Task], epochs: int, sample: int | None, *, swapped: bool) -> float:
    """Return the time under the audit over the time without, of one pair."""

    def watched() -> tuple[float, list[float]]:
        with audit.watch(sample) as report:
            found = train(make, epochs)
        assert not report.history.faults
        return found

    if swapped:
        (ours, audited), (own, plain) = watched(), train(make, epochs)
    else:
        (own, plain), (ours, audited) = train(make, epochs), watched()
    assert audited == plain, "the audit has changed the training"
    return ours / own


def main() -> int:
    """Measure both trainings at both samplings and print a line each."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    torch.set_num_threads(1)
    missed = False
    for name, make, epochs in (("digits", digits, 12), ("a small convolutional net", convolutional, 12)):
        for sample, goal in GOALS.items():
            ratio(make, 1, sample, swapped=False)  # warm up
            found = [ratio(make, epochs, sample, swapped=nth % 2 == 1) for nth in range(pairs)]
            missed |= median(found) > goal
            print(  # noqa: T201 - a benchmark prints
                f"audit of {name}, {NAMES[sample]}: {median(found):.3f} times the wall time without (goal {goal}; "
                f"{pairs} pairs, {min(found):.3f} to {max(found):.3f})"
            )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
