"""What a training reports while it runs, for runs of an experiment and for sweeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradlab.analysis.results import Result

REPORT_EVERY = 0.1  # seconds between two reports


class Progress:
    """Receives the progress of a training and ignores it; subclasses show it."""

    def on_start(
        self, title: str, runs: int, steps: int | None = None, *, done_steps: int = 0, done_runs: int = 0
    ) -> None:
        """Note that a training starts or resumes.

        Args:
            title: names what is trained.
            runs: the number of runs that are trained together: 1, those of a stack, or all of a sweep.
            steps: of each of them; None where that is unknown.
            done_steps: steps of each that an earlier training has done.
            done_runs: runs of a sweep that an earlier training has done.
        """

    def on_progress(self, steps: int, done_runs: float = 0.0) -> None:
        """Note the steps trained so far, ten times a second at most.

        Args:
            steps: done of each run; of a sweep, the sum over all runs.
            done_runs: finished runs of a sweep, with the finished shares of the others.
        """

    def on_message(self, text: str) -> None:
        """Show a message to the user."""

    def on_end(self, result: Result) -> None:
        """Note that a run has ended or was reused."""
