"""The window of one optimizer: what happens on the way to its next update."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.audit.history.trace import BACKWARDS, own_part
from gradlab.audit.places import user_location

if TYPE_CHECKING:
    from gradlab.audit.history.history import OptimizerHistory
    from gradlab.audit.history.loss import Loss
    from gradlab.audit.history.trace import Event
    from gradlab.audit.places import Place
    from gradlab.audit.recording.measurement import Measurement


LONGEST = 2000  # letters of a trace


class Pass:
    """A backward pass in the window of one optimizer."""

    __slots__ = ("after_step", "others", "place", "reached", "stepped")

    def __init__(
        self, place: Place | None, reached: frozenset[int] | None, others: frozenset[int], *, after_step: bool
    ) -> None:
        self.place = place
        self.reached = reached  # ids of the optimizer's parameters; None where that is not known
        self.others = others  # ids of other watched optimizers of which it reached something
        self.after_step = after_step  # another optimizer had stepped for a pass of this window before
        self.stepped: dict[int, str] = {}  # optimizers that it reached and that have stepped since: kinds by id


class Window:
    """What has happened since the last update.

    Args:
        measurement: of the gradients, where this update is measured.
        asks_for_lines: whether to note the line of the user's code of every event.
        fetched_before: batches given by DataLoaders up to the last update.
    """

    __slots__ = ("asks_for_lines", "fetched_before", "letters", "letters_at_loss", "lines", "losses", "measurement",
                 "passes")  # fmt: skip

    def __init__(self, measurement: Measurement | None, *, asks_for_lines: bool, fetched_before: int) -> None:
        self.measurement = measurement
        self.asks_for_lines = asks_for_lines
        self.fetched_before = fetched_before
        self.letters = ""  # the trace
        self.lines: list[Place | None] = []  # one per letter, if asked for
        self.passes: list[Pass] = []  # if measured
        self.losses: list[Loss] = []  # of the backward passes whose loss was read
        self.letters_at_loss = 0  # letters when the last loss was read; -1 where it was not to be

    def add(self, event: Event, *, repeated: bool = False) -> None:
        """Add an event to the trace; the same one twice in a row only if `repeated`."""
        if (repeated or not self.letters.endswith(event)) and len(self.letters) < LONGEST:
            self.letters += event
            if self.asks_for_lines:
                self.lines.append(user_location())

    def add_lines_to(self, history: OptimizerHistory) -> int:
        """Write down the lines that led to the update, and return how many of them took backward passes."""
        if not self.lines:
            return 0
        letters = own_part(self.letters)
        own = list(zip(letters, self.lines[len(self.lines) - len(letters) :], strict=True))
        for letter, place in own:
            history.add_place(letter, place)
        self.lines = []
        return len({place for letter, place in own if letter in BACKWARDS and place})
