"""The step of `gradlab run`, every row logged, against the same loop by hand with `loss.item()`.

Both run in this process, in pairs that take turns; what counts is the median of the ratios. Goal: at most 1.05.

    make bench        or        python -m tests.benchmarks.step [PAIRS]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import torch

from gradlab import experiment, runs, tasks

if TYPE_CHECKING:
    from gradlab.experiment import Experiment
    from gradlab.results import Result

GOAL = 1.05
Timed = tuple[float, list[float]]  # seconds a step, losses


class Silent:
    """A watcher that shows nothing, so that the cost of being watched is in the figure."""

    def begins(self, plan: runs.Plan, steps: int | None) -> None: ...
    def at(self, steps: int) -> None: ...
    def ends(self, result: Result) -> None: ...


def by_hand(chosen: Experiment) -> Timed:
    """Return seconds a step and the losses of the loop that everybody writes."""
    task = tasks.build(chosen.task_name, chosen.seeds[0], chosen.task_options)
    model, batches, criterion = task.model, task.batches, task.loss
    optimizer = torch.optim.SGD(model.parameters(), lr=chosen.optimizer.lr)
    losses = []
    start = time.monotonic()
    for _ in range(chosen.epochs or 0):
        for batch in batches:
            loss = criterion(model, batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    return (time.monotonic() - start) / len(losses), losses


def by_gradlab(chosen: Experiment, out: Path) -> Timed:
    """Return seconds a step and the losses of `gradlab run`."""
    result = runs.run(chosen, out, fresh=True, watcher=Silent()).runs[0]
    assert result.seconds is not None
    return result.seconds / result.steps, [row.loss for row in result.rows]


def pair(
    chosen: Experiment, out: Path, *, swapped: bool
) -> tuple[tuple[float, list[float]], tuple[float, list[float]]]:
    """Return both, by hand first, measured in either order, so that a drift of the machine falls on both alike."""
    if swapped:
        ours = by_gradlab(chosen, out)
        return by_hand(chosen), ours
    return by_hand(chosen), by_gradlab(chosen, out)


def main() -> int:
    """Measure both tasks and print a line each."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    torch.set_num_threads(1)
    mlp = f"{Path(__file__).with_name('mlp.py')}:mlp"
    missed = False
    for name, task, epochs in (("digits", "digits", 40), ("2-32-32-2 MLP", mlp, 40)):
        overrides = [
            experiment.Override(("modes",), ["zero_grad"], "--mode"),
            experiment.Override(("epochs",), epochs, "--epochs"),
        ]
        chosen = experiment.from_task(task, overrides)
        ratios, steps = [], []
        with tempfile.TemporaryDirectory() as folder:
            by_hand(chosen), by_gradlab(chosen, Path(folder))  # warm up
            for nth in range(pairs):
                first, second = pair(chosen, Path(folder), swapped=nth % 2 == 1)
                assert first[1] == second[1], "the two loops do not train the same"
                ratios.append(second[0] / first[0])
                steps.append(first[0])
        middle = median(ratios)
        missed |= middle > GOAL
        print(  # noqa: T201 - a benchmark prints
            f"step of {name}: {middle:.3f} times the loop by hand (goal {GOAL}; {pairs} pairs, "
            f"{min(ratios):.3f} to {max(ratios):.3f}; by hand {median(steps) * 1e6:.0f} µs)"
        )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
