"""Stop requests: set by a signal, checked after each training step and between runs."""

from __future__ import annotations

from dataclasses import dataclass

from gradlab.wording import either, option


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
            raise StoppedError("stopped between two runs", "trains the missing runs")


class StoppedError(Exception):
    """Training stopped on request.

    Attributes:
        what: what stopped, and where.
        then: what another call does; "" if it does not continue.
        fresh: whether the other call must not be fresh, since that would retrain all.
    """

    def __init__(self, what: str = "stopped", then: str = "", *, fresh: bool = False) -> None:
        super().__init__(what, then)
        self.what, self.then, self.fresh = what, then, fresh

    def __str__(self) -> str:
        again = either("the same command", "the same call")
        without = f" without {option('fresh')}" if self.fresh else ""
        return f"{self.what}; {again}{without} {self.then}" if self.then else self.what
