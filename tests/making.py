"""What several tests make by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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
