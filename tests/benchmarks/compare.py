"""A training with a mode imposed and its losses logged, against the same training without.

The `digits` network, trained in this process by the loop that everybody writes, in short blocks that take turns. What
counts is the median of the ratios of CPU time. As written, the audit measures the mode at the same time, as `gradlab
compare` does. Goal: at most 1.10.

    make bench        or        python -m tests.benchmarks.compare [PAIRS]
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles

import torch

from gradlab import audit, modes
from gradlab.comparison.imposing import Imposing
from gradlab.store import RowLog
from tests.benchmarks.audit import digits

GOAL = 1.10
EPOCHS = 70  # of a training
BLOCK = 20  # epochs between two turns
WORDS = ("as_written", "zero_grad", "no_zero_grad", "halve_grad")


class Training:
    """A training by hand, run block by block.

    Attributes:
        seconds: of CPU, of each block so far.
        losses: of all steps so far.
    """

    def __init__(self) -> None:
        self.task = digits()
        self.optimizer = torch.optim.SGD(self.task.model.parameters(), lr=0.01)
        self.seconds: list[float] = []
        self.losses: list[float] = []

    def train(self, epochs: int) -> None:
        """Train some more epochs."""
        task, optimizer, losses = self.task, self.optimizer, self.losses
        before = time.process_time()
        for _ in range(epochs):
            for batch in task.batches:
                optimizer.zero_grad()
                loss = task.loss(task.model, batch)
                assert isinstance(loss, torch.Tensor)
                loss.backward()  # type: ignore[no-untyped-call]  # torch does not say
                optimizer.step()
                losses.append(loss.item())
        self.seconds.append(time.process_time() - before)


def own() -> Training:
    """Train without anything else."""
    training = Training()
    training.train(EPOCHS)
    return training


def imposed(word: str) -> Training:
    """Train with a mode imposed and the losses logged."""
    mode = None if word == "as_written" else modes.parse(word)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        log = stack.enter_context(RowLog(Path(folder) / "metrics.jsonl"))
        if mode is None:
            stack.enter_context(audit.watch())
        imposing = stack.enter_context(Imposing(mode, log.append))
        training = Training()
        training.train(EPOCHS)
        judged = imposing.optimizers.judged()
        log.flush()
    if mode is not None:
        assert judged.good > 0, "the mode was not judged"
        assert not judged.faults, "the mode was not imposed"
    return training


def ratio(word: str, *, swapped: bool) -> float:
    """Return the CPU time with the mode over the time without, of one pair."""
    if swapped:
        ours, plain = imposed(word), own()
    else:
        plain, ours = own(), imposed(word)
    if word in ("as_written", "zero_grad"):
        assert ours.losses == plain.losses, "the training has changed"
    return sum(ours.seconds) / sum(plain.seconds)


def main() -> int:
    """Measure all modes and print a line each."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 41
    torch.set_num_threads(1)
    missed = False
    for word in WORDS:
        ratio(word, swapped=False)  # warm up
        found = [ratio(word, swapped=nth % 2 == 1) for nth in range(pairs)]
        low, _, high = quantiles(found, n=4)
        missed |= median(found) > GOAL
        print(  # noqa: T201 - a benchmark prints
            f"compare of digits, {word}: {median(found):.3f} times the CPU time without (goal {GOAL}; "
            f"{pairs} pairs, half of them {low:.3f} to {high:.3f})"
        )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
