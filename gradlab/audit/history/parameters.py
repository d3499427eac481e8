"""The part of the history on single parameters and graphs, and on what surrounds an optimizer: plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from gradlab.audit.history.setup import Restarts

if TYPE_CHECKING:
    from gradlab.audit.history.setup import EvalMode, Schedule
    from gradlab.audit.places import Place


LOOKS = 3  # looks that must show a mistake before a parameter is reported
SPAN_OF_GRAPHS = 40  # updates after which a living graph counts as kept


class Parameter(NamedTuple):
    """A parameter in a report."""

    shape: tuple[int, ...]
    number: int | None = None  # in its optimizer, counted from 0
    name: str = ""  # as in its model: "0.weight of Sequential"; empty if no model holds it
    unseen: str = ""  # the plain list or dict that holds it, which model.parameters() skips
    training: bool = True  # whether its module is in training mode

    def __str__(self) -> str:
        if self.name:
            return self.name
        number = "" if self.number is None else f" {self.number}"
        return f"parameter{number} of shape {self.shape}"


class Unowned(NamedTuple):
    """A parameter that gradient reaches, that no optimizer holds, and that does not move."""

    parameter: Parameter
    since: int  # the update at which it was first seen
    places: tuple[Place, ...]  # lines of the backward passes
    instead_of: int = 0  # number of parameters in an optimizer without gradient or model


@dataclass(slots=True)
class Remade:
    """Parameters that a loss reaches, that no optimizer holds, and that are others at every look."""

    place: Place  # line of the backward pass
    since: int  # the update at which the first ones were seen
    parameters: list[Parameter]  # a few of them, at that update
    count: int
    times: int = 1


@dataclass(slots=True)
class Moved:
    """A parameter that was frozen after some training, but still moves."""

    parameter: Parameter
    since: int
    zeros: bool  # its gradient is zeros, else an old one
    times: int = 1


@dataclass(slots=True)
class Uncleared:
    """Parameters that stayed uncleared at every look, while others of the optimizer were cleared at every look."""

    parameters: dict[int, Parameter] = field(default_factory=dict)  # by number, once seen often enough
    others: int = 0  # number of cleared parameters
    looks: int = 0
    since: int = 0  # update of the first look


@dataclass(slots=True)
class NotFinite:
    """Gradients with inf or nan that a step used, so that the weights are not finite either."""

    since: int
    parameters: list[Parameter]  # a few of them, at that update
    count: int  # number of parameters
    finite_at: int  # the last update with finite gradients
    times: int = 1  # updates that showed it
    at_end: bool = False  # weights are nan at the end


class Crossing(NamedTuple):
    """A window in which another optimizer stepped for a backward pass before this one's own pass."""

    update: int
    mixed: bool  # the gradient of the other pass was still there
    others: tuple[Place, ...]  # its lines
    kind: str  # class of the optimizer that stepped


class OtherPasses(NamedTuple):
    """A window in which some backward passes also reached an input that asks for gradient."""

    update: int
    left: bool  # their gradient was still there at the step, which followed a pass without such an input
    places: tuple[Place, ...]  # their lines
    inline: bool = False  # there is one, in the function that also takes the last pass


@dataclass(slots=True)
class Graphs:
    """Graphs from one line that were alive many updates later."""

    place: Place
    since: int  # update of the oldest graph
    alive: int  # number alive, at the last look that found more than before
    updates: int  # updates since the oldest graph, at that look
    looks: int = 1  # looks that found more than before


@dataclass(slots=True)
class Parameters:
    """What rules report on the parameters of one optimizer, and on what surrounds it."""

    silent: dict[tuple[int, int], Parameter] = field(default_factory=dict)  # no gradient yet; by group and index
    asking: int = 0  # parameters that required gradient when those were reported
    all_silent: bool = False  # whether these are all parameters
    moved: dict[tuple[int, int], Moved] = field(default_factory=dict)
    uncleared: Uncleared = field(default_factory=Uncleared)
    not_finite: NotFinite | None = None
    crossings: list[Crossing] = field(default_factory=list)
    other_passes: list[OtherPasses] = field(default_factory=list)
    asked: int = 0  # backward passes that also reached an input that asks for gradient
    apart: int = 0  # windows whose passes reach different parameters: disjoint, or the same sets every time
    together: int = 0  # all other windows with several passes
    schedules: list[Schedule] = field(default_factory=list)
    eval_mode: EvalMode | None = None
    restarts: Restarts = field(default_factory=Restarts)
    losses: int = 0  # losses per window in `apart`: distinct sets, or all passes if sets repeat unevenly
