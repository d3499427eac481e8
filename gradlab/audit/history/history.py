"""What was seen of a script's training: plain data, which findings are made of.

Of each optimizer there are traces (see `trace`), one per update. Equal traces in a row are one stretch, so that a
million equal updates take the room of one.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.audit.history.loss import UNKNOWN, Loss
from gradlab.audit.history.parameters import Graphs, Parameters, Unowned
from gradlab.audit.history.trace import gathered_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gradlab.audit.places import Place

MOST_STRETCHES = 20_000  # of one optimizer; beyond, the last one grows
MOST_MEASURED = 1024  # beyond, every other one is dropped
MOST_FETCHED = 64  # different numbers
MOST_LOSSES = 256  # kinds of windows; beyond, the first ones alone are counted

MEMORIES = ("momentum", "weight_decay")  # settings of SGD by which keep is not just its momentum
THREADS_AT_ONCE = (
    "several threads train at once, which the audit does not follow: it tells what it saw before, and finds nothing"
)


@dataclass(slots=True)
class Stretch:
    """Updates in a row, before each of which the same happened."""

    trace: str
    first: int  # the number of its first update; they are counted from 1
    times: int


class MeasuredUpdate(NamedTuple):
    """What was measured on the way to one update, in a few elements of a few parameters."""

    update: int  # the one that it led to
    kept: tuple[float, ...] = ()  # of each parameter: the share of the last update's gradient that was left
    joins: tuple[float, ...] = ()  # at each further backward pass: the share that was left of what had gathered
    size: float | None = None  # ⟨s, a⟩/⟨a, a⟩ with a what the last backward pass left, s what the step found
    cosine: float | None = None  # of the angle between the two
    empty: bool = False  # the step found none but zeros and None
    moved: bool = False  # weights changed between two backward passes of one window: no accumulation, but SAM
    lines: int = 0  # of the user's code, different ones, that took the backward passes


@dataclass(slots=True)
class OptimizerHistory:
    """What was seen of one optimizer."""

    kind: str  # the name of its class
    parameters: int  # how many tensors it holds, as at the latest update that was measured
    settings: dict[str, float] = field(default_factory=dict)  # as made; those of MEMORIES: the largest of any group
    updates: int = 0
    stretches: list[Stretch] = field(default_factory=list)
    pending: str = ""  # the trace since the last update
    losses: dict[tuple[int, Loss], list[int]] = field(default_factory=dict)  # see `add_losses`
    fetched: dict[int, int] = field(default_factory=dict)  # by how many batches DataLoaders gave: updates
    measured: list[MeasuredUpdate] = field(default_factory=list)
    times_measured: int = 0  # however many of these were dropped since
    places: dict[str, Counter[Place]] = field(default_factory=dict)  # by the letter of the event
    steps_within_pass: bool = False  # then what is kept cannot be measured
    seen: Parameters = field(default_factory=Parameters)  # of single ones

    def add_update(self, trace: str) -> None:
        """Count an update, before which `trace` happened."""
        self.updates += 1
        last = self.stretches[-1] if self.stretches else None
        if last and (last.trace == trace or len(self.stretches) >= MOST_STRETCHES):
            last.times += 1
        else:
            self.stretches.append(Stretch(sys.intern(trace), self.updates, 1))

    def note_groups(self, groups: list[dict[str, Any]]) -> None:
        """Note how many parameters it holds now, and whether any group has a memory of its own: it is no plain SGD."""
        self.parameters = 0
        for group in groups:
            self.parameters += len(group["params"])
            for name in MEMORIES:
                value = group.get(name)
                if value and isinstance(value, int | float):
                    self.settings[name] = max(self.settings.get(name, 0.0), float(value))

    def add_measured(self, measured: MeasuredUpdate) -> None:
        """Keep what was measured, thinned out where it grows long."""
        self.measured.append(measured)
        self.times_measured += 1
        if len(self.measured) > MOST_MEASURED:
            del self.measured[1::2]

    def add_fetched(self, batches: int) -> None:
        """Count how many batches DataLoaders gave on the way to an update."""
        if batches in self.fetched or len(self.fetched) < MOST_FETCHED:
            self.fetched[batches] = self.fetched.get(batches, 0) + 1

    def add_losses(self, trace: str, losses: list[Loss]) -> None:
        """Count a window by its number of backward passes and how their losses were scaled: how often, and since when.

        Losses that differ within a window are unknown.
        """
        if not losses:
            return
        one = losses[0] if losses.count(losses[0]) == len(losses) else UNKNOWN
        key = gathered_in(trace), one
        if key in self.losses:
            self.losses[key][0] += 1
        elif len(self.losses) < MOST_LOSSES:
            self.losses[key] = [1, self.updates]

    @property
    def batches(self) -> int:
        """How many batches DataLoaders usually gave for an update; 0 where they gave none, or long before."""
        return max(self.fetched, key=self.fetched.__getitem__, default=0)

    def add_place(self, event: str, place: Place | None) -> None:
        """Count the line that did this: the letter of an event."""
        if place:
            self.places.setdefault(event, Counter())[place] += 1

    def traces(self) -> Iterator[tuple[str, int]]:
        """Yield the trace before each update, and how many updates in a row had it."""
        for stretch in self.stretches:
            yield stretch.trace, stretch.times

    def places_of(self, letters: str) -> list[Place]:
        """Return the lines that did any of that, in order."""
        return in_order(place for letter in letters for place in self.places.get(letter, ()))


@dataclass(slots=True)
class History:
    """What was seen of a script."""

    optimizers: list[OptimizerHistory] = field(default_factory=list)
    backwards: int = 0
    faults: list[str] = field(default_factory=list)  # of the audit itself
    unwatched: int = 0  # optimizers, for there were too many
    threads_at_once: bool = False  # several threads trained at once: nothing was recorded from then on
    unowned: list[Unowned] = field(default_factory=list)  # parameters that gradient reaches and no optimizer holds
    graphs: dict[Place, Graphs] = field(default_factory=dict)  # alive long after their backward pass, by its line

    @property
    def updates(self) -> int:
        """How many updates all optimizers took."""
        return sum(each.updates for each in self.optimizers)

    def trained(self) -> list[OptimizerHistory]:
        """Return the optimizers that took a step."""
        return [each for each in self.optimizers if each.updates]

    def remarks(self) -> list[str]:
        """Return remarks on the watching itself, a sentence each."""
        remarks = [THREADS_AT_ONCE] if self.threads_at_once else []
        if self.unwatched:
            first = len(self.optimizers)
            remarks.append(f"beyond the first {first} optimizers, {self.unwatched} more were not watched")
        return remarks


def in_order(places: Iterable[Place]) -> list[Place]:
    """Return each place once, by file and line."""
    return sorted(set(places))
