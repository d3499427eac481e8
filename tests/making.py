"""What several tests make by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradlab import runs
from gradlab.analysis import curves
from gradlab.analysis.results import Result
from gradlab.rows import Row

if TYPE_CHECKING:
    from collections.abc import Sequence


def result(
    losses: Sequence[float], mode: str = "zero_grad", seed: int = 1, per_epoch: int = 2, status: str = "done"
) -> Result:
    rows = [Row(nth, nth, nth // per_epoch, float(loss)) for nth, loss in enumerate(losses)]
    found = curves.summarise(rows)
    return Result(
        mode, seed, status, found.verdict, found.steps, found.updates, found.first_loss, found.last_loss,
        found.best_loss, 1.0, False, Path("run"), rows,
    )  # fmt: skip


class RecordingProgress(runs.Progress):
    """Records what a training reports.

    Attributes:
        starts: steps, steps done before, and runs, of each start.
        ends: mode, seed and status of each run that ended.
    """

    def __init__(self) -> None:
        self.starts: list[tuple[int | None, int, int]] = []
        self.messages: list[str] = []
        self.ends: list[str] = []

    @property
    def done_steps(self) -> list[int]:
        """The steps that were done before each start."""
        return [done for _, done, _ in self.starts]

    def on_start(self, title: str, runs: int, steps: int | None = None, *, done_steps: int = 0, **_: Any) -> None:
        self.starts.append((steps, done_steps, runs))

    def on_message(self, text: str) -> None:
        self.messages.append(text)

    def on_end(self, result: Result) -> None:
        self.ends.append(f"{result.mode} {result.seed} {result.status}")
