"""The step of `gradlab run`, every row logged, against the same loop by hand with `loss.item()`.

Both run in this process, in pairs that take turns; what counts is the median of the ratios. Goal: at most 1.05. CPU
time is judged, the thread that writes the rows included; wall time is shown too, which is noise on a shared machine.

    make bench        or        python -m tests.benchmarks.step [PAIRS]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import torch

from gradlab import experiment, runs, tasks

if TYPE_CHECKING:
    from gradlab.experiment import Experiment

GOAL = 1.05
EPOCHS = 120


class Timed(NamedTuple):
    """A training: seconds of CPU and of wall time a step, and its losses."""

    cpu: float
    wall: float
    losses: list[float]


class Clock(runs.Progress):
    """Takes the time between the first and the last word it hears: steps alone, no set-up."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, float, float]] = []

    def on_progress(self, steps: int, done_runs: float = 0.0) -> None:
        self.heard.append((steps, time.process_time(), time.perf_counter()))

    def timed(self, losses: list[float]) -> Timed:
        (first, cpu, wall), (last, cpu_end, wall_end) = self.heard[0], self.heard[-1]
        return Timed((cpu_end - cpu) / (last - first), (wall_end - wall) / (last - first), losses)


def by_hand(chosen: Experiment) -> Timed:
    """Train by the loop that everybody writes."""
    task = tasks.build(chosen.task_name, chosen.seeds[0], chosen.task_options)
    model, batches, criterion = task.model, task.batches, task.loss
    optimizer = torch.optim.SGD(model.parameters(), lr=chosen.optimizer.lr)
    losses: list[float] = []
    clock = Clock()
    for _ in range(EPOCHS):
        for batch in batches:
            loss = criterion(model, batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        clock.on_progress(len(losses))
    return clock.timed(losses)


def by_gradlab(chosen: Experiment, out: Path) -> Timed:
    """Train by `gradlab run`."""
    clock = Clock()
    result = runs.run(chosen, out, fresh=True, progress=clock).runs[0]
    return clock.timed([row.loss for row in result.rows])


def pair(chosen: Experiment, out: Path, *, swapped: bool) -> tuple[Timed, Timed]:
    """Return both, by hand first, measured in either order, so that a drift of the machine falls on both alike."""
    if swapped:
        ours = by_gradlab(chosen, out)
        return by_hand(chosen), ours
    return by_hand(chosen), by_gradlab(chosen, out)


def main() -> int:
    """Measure both tasks and print a line each."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    torch.set_num_threads(1)
    tasks_file = Path(__file__).with_name("mlp.py")
    missed = False
    for name, task in (("digits", f"{tasks_file}:digits"), ("2-32-32-2 MLP", f"{tasks_file}:mlp")):
        modes = experiment.Override(("modes",), ["zero_grad"], "--mode")
        chosen = experiment.from_task(task, [modes, experiment.Override(("epochs",), EPOCHS, "--epochs")])
        with tempfile.TemporaryDirectory() as folder:
            pair(chosen, Path(folder), swapped=False)  # warm up
            found = [pair(chosen, Path(folder), swapped=nth % 2 == 1) for nth in range(pairs)]
        assert all(hand.losses == ours.losses for hand, ours in found), "the two loops do not train the same"
        cpu = [ours.cpu / hand.cpu for hand, ours in found]
        wall = [ours.wall / hand.wall for hand, ours in found]
        missed |= median(cpu) > GOAL
        print(  # noqa: T201 - a benchmark prints
            f"step of {name}: {median(cpu):.3f} times the CPU time of the loop by hand (goal {GOAL}; {pairs} pairs, "
            f"{min(cpu):.3f} to {max(cpu):.3f}), {median(wall):.3f} times its wall time; "
            f"by hand {median(hand.cpu for hand, _ in found) * 1e6:.0f} µs"
        )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
