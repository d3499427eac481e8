"""Progress reports of a training, for experiments and sweeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradlab.analysis.results import Result

REPORT_EVERY = 0.1  # seconds between reports


class Progress:
    """Receives progress reports and ignores them; subclasses show them."""

    def on_prepare(self, text: str) -> None:
        """Handle a step that comes before the first run or after the last one."""

    def on_start(
        self, title: str, runs: int, steps: int | None = None, *, done_steps: int = 0, done_runs: int = 0
    ) -> None:
        """Handle the start or resumption of a training.

        Args:
            title: the name of the run, stack or sweep.
            runs: the number of runs that train together: 1, a stack, or a whole sweep.
            steps: steps of each run; None if unknown.
            done_steps: steps of each run that an earlier training has done.
            done_runs: runs of a sweep that an earlier training has done.
        """

    def on_progress(self, steps: int, done_runs: float = 0.0) -> None:
        """Handle the steps trained so far, at most ten times per second.

        Args:
            steps: steps done of each run; in a sweep, the sum over all runs.
            done_runs: finished runs of a sweep, plus the finished fractions of the others.
        """

    def on_message(self, text: str) -> None:
        """Show a message to the user."""

    def on_run_count(self, runs: int) -> None:
        """Handle a number of runs that became known later than the first run."""

    def on_end(self, result: Result) -> None:
        """Handle the end of a run, or its reuse."""
