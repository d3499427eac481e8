"""Requests to stop: set by a signal, checked after each training step and between two runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Stop:
    """Whether a stop was requested, and whether it will be noticed soon.

    Attributes:
        requested: set by whoever wants training to stop, such as a signal handler.
        checked_after_steps: whether training steps are under way, after each of which `requested` is checked.
    """

    requested: bool = False
    checked_after_steps: bool = False

    def raise_between_runs(self) -> None:
        """Raise StoppedError if a stop was requested."""
        if self.requested:
            raise StoppedError("stopped between two runs; the same command trains what is missing")


class StoppedError(Exception):
    """Training stopped on request; the message says how to continue."""
