"""The part of the history on what surrounds the gradients: schedulers, modes of modules, terms, new optimizers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gradlab.audit.places import Place


@dataclass(slots=True)
class Schedule:
    """A learning-rate scheduler that is made for a number of steps."""

    kind: str  # class name
    total: int  # its number of steps
    steps: int  # taken so far, including those before a checkpoint
    place: Place | None  # line of its first step


class IgnoredFlag(NamedTuple):
    """A module with an attribute `requires_grad` at the end, which all its parameters differ from."""

    value: bool
    name: str  # of the module
    parameters: int


@dataclass(slots=True)
class EvalMode:
    """Steps of an optimizer whose whole network is in eval mode, where that changes what the network computes."""

    kind: str  # class of the network
    layers: tuple[str, ...]  # classes of its layers with dropout or batch norm, sorted
    count: int  # number of these in eval mode
    since: int  # the first such update
    times: int = 0  # measured updates
    updates: int = 0  # between measured ones that are both in eval mode, and these


@dataclass(slots=True)
class ConstantTerm:
    """Losses of one line to which something is added that has no graph."""

    since: int
    values: list[float] = field(default_factory=list)  # of that term
    largest: float = 0.0  # absolute value of the losses
    without: int = 0  # losses of this line without such a term


@dataclass(slots=True)
class Restarts:
    """New optimizers with the parameters of a deleted one, at the same weights."""

    empty: int = 0  # of these, without state at their first step
    filled: int = 0  # with a state, such as that of the deleted one
    since: int = 0  # the first update of the first one without state
    holds_state: bool = False  # after a step, there is a tensor for each parameter, such as a momentum
