"""The window of one optimizer: what happens on the way to its next update."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gradlab.audit.history.trace import BACKWARDS, own_part
from gradlab.audit.places import user_location

if TYPE_CHECKING:
    from gradlab.audit.history.history import OptimizerHistory
    from gradlab.audit.history.loss import Loss
    from gradlab.audit.history.trace import Event
    from gradlab.audit.places import Place
    from gradlab.audit.recording.measurement import UpdateMeasurement


LONGEST = 2000  # letters of a trace


@dataclass(slots=True, eq=False)
class Pass:
    """A backward pass in the window of one optimizer."""

    place: Place | None
    reached: frozenset[int] | None  # ids of the optimizer's parameters; None where that is not known
    others: frozenset[int]  # ids of other watched optimizers of which it reached something
    after_step: bool = False  # another optimizer had stepped for a pass of this window before
    stepped: dict[int, str] = field(default_factory=dict)  # by id: kinds of optimizers reached that stepped since


@dataclass(slots=True, eq=False)
class Window:
    """What has happened since the last update."""

    measurement: UpdateMeasurement | None  # where this update is measured
    asks_for_lines: bool  # of the user's code, for every event
    fetched_before: int = 0  # batches given by DataLoaders up to the last update
    letters: str = ""  # the trace
    lines: list[Place | None] = field(default_factory=list)  # one per letter, if asked for
    passes: list[Pass] = field(default_factory=list)  # if measured
    losses: list[Loss] = field(default_factory=list)  # of the backward passes whose loss was read
    letters_at_loss: int = 0  # letters when the last loss was read; -1 where it was not to be

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
