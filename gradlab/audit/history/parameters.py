"""What was seen of single parameters and of graphs: plain data, a part of the history."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gradlab.audit.places import Place


LOOKS = 3  # that must show it before a parameter is reported


class Parameter(NamedTuple):
    """A parameter as it is reported."""

    shape: tuple[int, ...]
    number: int | None = None  # in its optimizer, counted from 0
    name: str = ""  # as its model names it: "0.weight of Sequential"; empty where no model holds it
    unseen: str = ""  # the plain list or dict that holds it, which parameters() of the model does not see
    training: bool = True  # whether the module that holds it is in training mode; eval() ends that

    def __str__(self) -> str:
        if self.name:
            return self.name
        number = "" if self.number is None else f" {self.number}"
        return f"parameter{number} of shape {self.shape}"


class Unowned(NamedTuple):
    """A parameter that gradient reaches, that no optimizer holds, and that does not move."""

    parameter: Parameter
    since: int  # the update on the way to which it was first seen
    places: tuple[Place, ...]  # of the backward passes
    instead_of: int = 0  # parameters that an optimizer holds, but no model and no gradient: how many there were


@dataclass(slots=True)
class Moved:
    """A parameter that was frozen when its optimizer had trained it, and that moves nevertheless."""

    parameter: Parameter
    since: int
    zeros: bool  # its gradient is zeros; else an old one
    times: int = 1


@dataclass(slots=True)
class NotFinite:
    """Gradients that were not finite when a step took them, and made weights that are not either."""

    since: int
    parameters: list[Parameter]  # at that update; a few
    count: int  # how many there were
    finite_at: int  # the last update before it that was measured
    times: int = 1


class Crossing(NamedTuple):
    """A window with a backward pass that was followed by another optimizer's step, before one of its own."""

    update: int
    mixed: bool  # what that pass left was still there
    others: tuple[Place, ...]  # where it stands
    kind: str  # of the optimizer that stepped


@dataclass(slots=True)
class Graphs:
    """Graphs of backward passes at one line that were alive many updates later."""

    place: Place
    since: int  # the update of the oldest one
    alive: int  # of those that were marked, at the last look that found more of them than any before
    updates: int  # how much later that was
    looks: int = 1  # such looks


@dataclass(slots=True)
class Parameters:
    """What was seen of the parameters of one optimizer, where something is to be reported."""

    silent: dict[tuple[int, int], Parameter] = field(default_factory=dict)  # no gradient ever; by group and place
    all_silent: bool = False  # whether that is all that it holds
    moved: dict[tuple[int, int], Moved] = field(default_factory=dict)
    not_finite: NotFinite | None = None
    crossings: list[Crossing] = field(default_factory=list)
    apart: int = 0  # windows whose passes reached different ones: none in common, or the same sets each time
    together: int = 0  # other windows of several passes that were looked at
    losses: int = 0  # of which those windows are: different sets, or passes where not all are reached as often
