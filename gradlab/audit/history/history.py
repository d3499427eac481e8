"""The history of a script's training: plain data, which the rules read.

Every optimizer has a trace per update (see `trace`). Equal traces in a row form one stretch, so a million equal
updates take as much memory as one.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.audit.history.loss import UNKNOWN, Loss
from gradlab.audit.history.parameters import Graphs, Parameters, Remade, Unowned
from gradlab.audit.history.trace import gathered_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gradlab.audit.history.parameters import Parameter
    from gradlab.audit.history.setup import ConstantTerm, IgnoredFlag
    from gradlab.audit.places import Place

MOST_STRETCHES = 20_000  # per optimizer; beyond, the last one grows
MOST_MEASURED = 1024  # per optimizer; beyond, every other one is dropped
MOST_FETCHED = 64  # different numbers of batches per update
MOST_WASTED = 512  # windows with wasted passes
MOST_LOSSES = 256  # kinds of windows; beyond, no new kinds are counted

MEMORIES = ("momentum", "weight_decay")  # settings of SGD with which keep does not equal momentum
THREADS_AT_ONCE = (
    "several threads train at the same time, which the audit does not support; it shows what came before, "
    "and checks no rules"
)


@dataclass(slots=True)
class Stretch:
    """Updates in a row with the same trace."""

    trace: str
    first: int  # number of its first update, counted from 1
    times: int


class MeasuredUpdate(NamedTuple):
    """Measurements of one update, from a few elements of a few parameters."""

    update: int
    kept: tuple[float, ...] = ()  # per parameter: the share of the last update's gradient that was left
    joins: tuple[float, ...] = ()  # per further backward pass: the share of the accumulated gradient that was left
    size: float | None = None  # ⟨s, a⟩/⟨a, a⟩; a: gradient after the last backward pass, s: gradient at the step
    cosine: float | None = None  # of the angle between s and a
    empty: bool = False  # the step found only zeros and None
    moved: bool = False  # weights changed between two backward passes of one window, as in SAM
    lines: int = 0  # different lines of the user's code that took the backward passes
    again: float = 0.0  # the share of the last step's gradient that this step used again, without any pass
    away: bool = False  # moved, but not before the first backward pass
    noise: float = 0.0  # the share of noise in what was added to a in place; the rest is of earlier passes
    scale: float = 1.0  # that a GradScaler divided all of `.grad` by, including what was kept


class WastedPasses(NamedTuple):
    """Backward passes whose gradient was cleared before any step, in one run before all others of the window."""

    update: int
    wasted: int
    used: int  # later passes of the window, none of them cleared
    at_end: bool  # an epoch ended or began in between
    training: bool | None  # from the same line, without moved weights or gradient of an input; None if unknown


class ClippedNothing(NamedTuple):
    """Calls of one line that clip parameters without gradient, or none at all."""

    since: int  # the update of the first
    times: int
    empty: bool  # no parameters were given


@dataclass(slots=True)
class OptimizerHistory:
    """The history of one optimizer."""

    kind: str  # class name
    parameters: int  # number of tensors at the latest measured update
    settings: dict[str, float] = field(default_factory=dict)  # defaults; MEMORIES: the largest of any group
    number: int = 0  # among several optimizers of this class that took a step, from 1; 0 if it is the only one
    groups: int = 1  # parameter groups, at the latest measured update
    created: int = 1  # optimizers of this class that held these parameters, one after the other
    updates: int = 0
    stretches: list[Stretch] = field(default_factory=list)
    pending: str = ""  # the trace since the last update
    losses: dict[tuple[int, Loss], list[int]] = field(default_factory=dict)  # see `add_losses`
    fetched: dict[int, int] = field(default_factory=dict)  # updates by number of batches from one DataLoader
    measured: list[MeasuredUpdate] = field(default_factory=list)
    times_measured: int = 0  # including dropped ones
    places: dict[str, Counter[Place]] = field(default_factory=dict)  # by letter of the event
    wasted: list[WastedPasses] = field(default_factory=list)
    covered: bool = False  # by the history of an optimizer around it, or inside it
    steps_within_pass: bool = False  # then keep cannot be measured
    scaled_losses: int = 0  # measured windows that a GradScaler unscales, whose losses are scaled
    unscaled_losses: list[int] = field(default_factory=list)  # the same, but no loss is scaled: their updates
    clips_checked: int = (
        0  # calls whose bound was compared with a gradient that is not zero, up to the first shortened
    )
    clips_shortened: int = 0  # of these, the calls that shortened it
    seen: Parameters = field(default_factory=Parameters)  # findings on single parameters

    @property
    def name(self) -> str:
        """Its class, with a number if there are several of that class: "SGD #2"."""
        return f"{self.kind} #{self.number}" if self.number else self.kind

    def add_update(self, trace: str) -> None:
        """Count an update with this trace."""
        self.updates += 1
        last = self.stretches[-1] if self.stretches else None
        if last and (last.trace == trace or len(self.stretches) >= MOST_STRETCHES):
            last.times += 1
        else:
            self.stretches.append(Stretch(sys.intern(trace), self.updates, 1))

    def note_groups(self, groups: list[dict[str, Any]]) -> None:
        """Store the current number of parameters, and the momentum and weight decay of the groups."""
        self.parameters, self.groups = 0, len(groups)
        for group in groups:
            self.parameters += len(group["params"])
            for name in MEMORIES:
                value = group.get(name)
                if value and isinstance(value, int | float):
                    self.settings[name] = max(self.settings.get(name, 0.0), float(value))

    def add_measured(self, measured: MeasuredUpdate) -> None:
        """Store a measurement; drop every other one if there are too many."""
        self.measured.append(measured)
        self.times_measured += 1
        if len(self.measured) > MOST_MEASURED:
            del self.measured[1::2]

    def add_fetched(self, batches: int) -> None:
        """Count the batches that one DataLoader gave for an update."""
        if batches in self.fetched or len(self.fetched) < MOST_FETCHED:
            self.fetched[batches] = self.fetched.get(batches, 0) + 1

    def add_losses(self, trace: str, losses: list[Loss]) -> None:
        """Count a window by its number of backward passes and the scale of their losses, with its first update.

        If losses within a window differ, their scale is unknown.
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
        """Usual number of batches that one DataLoader gave for an update, or 0."""
        return max(self.fetched, key=self.fetched.__getitem__, default=0)

    def add_place(self, event: str, place: Place | None) -> None:
        """Count the line of an event, which is given by its letter."""
        if place:
            self.places.setdefault(event, Counter())[place] += 1

    def traces(self) -> Iterator[tuple[str, int]]:
        """Yield every trace with the number of updates in a row that had it."""
        for stretch in self.stretches:
            yield stretch.trace, stretch.times

    def places_of(self, letters: str) -> list[Place]:
        """Return the sorted lines of all events with these letters."""
        return in_order(place for letter in letters for place in self.places.get(letter, ()))


class Overlap(NamedTuple):
    """Parameters that two optimizers move by turns."""

    parameters: list[Parameter]  # the first ones
    number: int  # of all
    since: int  # update of the larger optimizer
    small: OptimizerHistory  # holds only these
    large: OptimizerHistory  # also holds others


@dataclass(slots=True)
class History:
    """The history of a script."""

    optimizers: list[OptimizerHistory] = field(default_factory=list)
    backwards: int = 0
    faults: list[str] = field(default_factory=list)  # failures of the audit itself
    unwatched: int = 0  # optimizers beyond the limit
    threads_at_once: bool = False  # several threads trained at the same time, which ended the recording
    unowned: list[Unowned] = field(default_factory=list)  # parameters that gradient reaches and no optimizer holds
    remade: dict[Place, Remade] = field(default_factory=dict)  # parameters, by line of the backward pass
    graphs: dict[Place, Graphs] = field(default_factory=dict)  # kept alive, by line of the backward pass
    overlaps: list[Overlap] = field(default_factory=list)  # parameters in two optimizers
    clipped_nothing: dict[Place, ClippedNothing] = field(default_factory=dict)  # by line
    ignored_flags: list[IgnoredFlag] = field(default_factory=list)
    constant_terms: dict[Place, ConstantTerm] = field(default_factory=dict)  # by line of the backward pass
    ended_early: bool = False  # by a limit of updates, or with a status that is not 0
    notes: list[str] = field(default_factory=list)  # further limits, such as processes that were not watched
    information: list[str] = field(default_factory=list)  # that limits nothing, such as the ranks of the report

    @property
    def updates(self) -> int:
        """Number of updates of all optimizers."""
        return sum(each.updates for each in self.optimizers)

    def trained(self) -> list[OptimizerHistory]:
        """Return the optimizers that took a step, without those that another one covers; number those of one class."""
        trained = [each for each in self.optimizers if each.updates and not each.covered]
        of_class, so_far = Counter(each.kind for each in trained), Counter[str]()
        for each in trained:
            so_far[each.kind] += 1
            each.number = so_far[each.kind] if of_class[each.kind] > 1 else 0
        return trained

    def remarks(self) -> list[str]:
        """Return remarks on the audit itself, one sentence each."""
        return [*self.information, *self.limits()]

    def limits(self) -> list[str]:
        """Return the remarks on what the audit missed."""
        limits = [*([THREADS_AT_ONCE] if self.threads_at_once else []), *self.notes]
        if self.unwatched:
            first = len(self.optimizers)
            limits.append(f"watched the first {first} optimizers; {self.unwatched} more were not watched")
        return limits


def in_order(places: Iterable[Place]) -> list[Place]:
    """Return the places sorted, without duplicates."""
    return sorted(set(places))
