"""The window of one optimizer: the events before its next update."""

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
    from gradlab.audit.recording.samples import Sample


LONGEST = 2000  # letters of a trace


@dataclass(slots=True, eq=False)
class Pass:
    """A backward pass in the window of one optimizer."""

    place: Place | None
    function: Place | None  # first line of the user's function that takes it
    reached: frozenset[int] | None  # ids of the optimizer's parameters; None if unknown
    others: frozenset[int]  # ids of other watched optimizers whose parameters it reached
    asked: bool = False  # it also reached a tensor that is no parameter: an input that asks for gradient
    unscaled_factor: float | None = None  # the constant factor of a loss that no GradScaler scaled
    after_step: bool = False  # another optimizer had already stepped for an earlier pass of this window
    stepped: dict[int, str] = field(default_factory=dict)  # classes of reached optimizers that stepped since, by id


@dataclass(slots=True, eq=False)
class Window:
    """Events since the last update."""

    measurement: UpdateMeasurement | None  # None if this update is not measured
    asks_for_lines: bool  # whether to store the user's line of every event
    fetched_before: int = 0  # batches from DataLoaders up to the last update
    by_loader_before: dict[int, int] | None = None  # the same, by DataLoader; None if not stored
    letters: str = ""  # the trace
    lines: list[Place | None] = field(default_factory=list)  # one per letter, if stored
    passes: list[Pass] = field(default_factory=list)  # only if measured
    losses: list[Loss] = field(default_factory=list)  # of the backward passes whose loss was read
    weights: Sample = None  # of one parameter, if the window looks for wasted passes
    moved: bool = False  # these changed between two backward passes
    scale: float | None = None  # that a GradScaler divides by, if measured
    letters_at_loss: int = 0  # letters when the last loss was read, or -1

    def add(self, event: Event, *, repeated: bool = False) -> None:
        """Add an event to the trace; add the same event twice in a row only if `repeated`."""
        if (repeated or not self.letters.endswith(event)) and len(self.letters) < LONGEST:
            self.letters += event
            if self.asks_for_lines:
                self.lines.append(user_location())

    def fetched_of_one(self, fetched: int, by_loader: dict[int, int]) -> int:
        """Return the number of batches in this window from the DataLoader that gave most, given the numbers so far.

        A sum over batches of different DataLoaders is no accumulation.
        """
        before = self.by_loader_before
        if before is None or len(by_loader) < 2:
            return fetched - self.fetched_before
        return max(0, *(number - before.get(loader, 0) for loader, number in by_loader.items()))

    def weights_are(self, weights: Sample) -> None:
        """Record whether weights changed since the last backward pass of this window."""
        self.moved |= self.weights is not None and weights != self.weights
        self.weights = weights

    def add_lines_to(self, history: OptimizerHistory) -> int:
        """Store the lines of this window, and return the number of lines with backward passes."""
        if not self.lines:
            return 0
        letters = own_part(self.letters)
        own = list(zip(letters, self.lines[len(self.lines) - len(letters) :], strict=True))
        for letter, place in own:
            history.add_place(letter, place)
        self.lines = []
        return len({place for letter, place in own if letter in BACKWARDS and place})
