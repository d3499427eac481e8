"""Parameters that stay uncleared at updates before which others of the same optimizer are cleared."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, NamedTuple

from gradlab.audit.history.parameters import LOOKS
from gradlab.audit.recording.samples import is_zero, sample

if TYPE_CHECKING:
    from torch import Tensor

    from gradlab.audit.history.history import OptimizerHistory
    from gradlab.audit.recording.names import Namer

    Grads = list[tuple[Tensor, Tensor | None, int]]  # parameter, its .grad, the version of that


class _State(NamedTuple):
    """A `.grad` and its version."""

    grad: weakref.ref[Tensor]
    version: int

    def is_still(self, grad: Tensor | None) -> bool:
        return grad is not None and self.grad() is grad and self.version == grad._version  # noqa: SLF001 - no other way


class UnclearedParameters:
    """Follows every `.grad` of an optimizer through measured updates, once some are found cleared and others not.

    A parameter stays uncleared if nothing but backward passes writes to its `.grad` from one step to the next.
    """

    def __init__(self, history: OptimizerHistory, namer: Namer) -> None:
        self._history = history
        self._namer = namer
        self.wanted = False  # some gradients were cleared and others not
        self._states: dict[int, _State] = {}  # of parameters uncleared so far, by number
        self._cleared: set[int] = set()
        self._reached: set[int] = set()  # by passes of this window, while uncleared
        self._always: set[int] | None = None  # uncleared at all looks
        self._others: set[int] = set()  # cleared at all looks

    def pass_started(self, grads: Grads, *, first: bool) -> None:
        """Look at the gradients before a backward pass of a measured update, the `first` one or a later one."""
        if first and not self.wanted:
            left = [grad is not None for p, grad, _ in grads if p.requires_grad]
            self.wanted = any(left) and not all(left)
        for nth, state in list(self._states.items()):
            p, grad, _ = grads[nth] if nth < len(grads) else (None, None, 0)
            if p is None or not p.requires_grad:
                del self._states[nth]
            elif not state.is_still(grad):
                del self._states[nth]
                if is_zero(sample(grad)):
                    self._cleared.add(nth)

    def pass_ended(self, parameters: list[Tensor]) -> None:
        """Note which gradients a backward pass has added to."""
        for nth, state in list(self._states.items()):
            grad = parameters[nth].grad
            if grad is None:
                del self._states[nth]
            elif not state.is_still(grad):
                self._reached.add(nth)
                self._states[nth] = _State(weakref.ref(grad), grad._version)  # noqa: SLF001 - no public equivalent

    def step_ended(self, parameters: list[Tensor], *, measures_next: bool) -> None:
        """Record the look that a step ends, and begin the next if the next update is measured."""
        uncleared = self._reached.intersection(self._states)
        if self._cleared or uncleared:
            self._add_look(parameters, uncleared)
        self._states, self._cleared, self._reached = {}, set(), set()
        if self.wanted and measures_next:
            self._states = {
                nth: _State(weakref.ref(p.grad), p.grad._version)  # noqa: SLF001 - no public equivalent
                for nth, p in enumerate(parameters)
                if p.grad is not None and p.requires_grad
            }

    def _add_look(self, parameters: list[Tensor], uncleared: set[int]) -> None:
        seen = self._history.seen.uncleared
        if self._always is None:
            self._always, self._others, seen.since = uncleared, self._cleared, self._history.updates
        else:
            self._always, self._others = self._always & uncleared, self._others & self._cleared
        seen.looks += 1
        seen.others = len(self._others)
        if seen.looks == LOOKS and self._always and self._others and not self._namer.exhausted:
            numbers = sorted(self._always)
            named = self._namer.name([parameters[nth] for nth in numbers])
            seen.parameters = {n: each._replace(number=n) for n, each in zip(numbers, named, strict=True)}
        seen.parameters = {nth: each for nth, each in seen.parameters.items() if nth in self._always}
