"""Stop requests: set by a signal, checked after each training step and between runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Stop:
    """Whether a stop was requested, and whether it is checked soon.

    Attributes:
        requested: whether to stop; set by a signal handler, for example.
        checked_after_steps: whether training is running and checks `requested` after every step.
    """

    requested: bool = False
    checked_after_steps: bool = False

    def raise_between_runs(self) -> None:
        """Raise StoppedError if a stop was requested."""
        if self.requested:
            raise StoppedError("stopped between two runs; the same command trains the missing runs")


class StoppedError(Exception):
    """Training stopped on request; the message says how to continue."""
