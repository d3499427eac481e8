"""The optimizers of a script in the order of construction, and the mode that is imposed on them."""

from __future__ import annotations

import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.comparison.checking import NO_GRADIENT, NO_SECOND, Check
from gradlab.comparison.gradients import is_empty
from gradlab.comparison.imposed import ImposedOptimizer
from gradlab.comparison.owners import Owners, parameters_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor
    from torch.optim import Optimizer

    from gradlab.modes import Mode


LOOKS = 100  # backward passes


class TrackedOptimizer:
    """An optimizer, or several of one class that hold the same parameters: together they count as one.

    Attributes:
        number: in the order of construction, from 1.
        kind: the class.
        owners: the optimizers.
        imposed: what imposes the mode on it; None if nothing does.
        calls: the number of calls of step().
        updates: the number of steps that were taken.
        looks_left: the number of backward passes at which the script's clearing is still looked at.
        zeros: whether the script clears by writing zeros; None if it does so at times or in part, or never clears.
    """

    def __init__(self, optimizer: Optimizer, number: int) -> None:
        self.number, self.kind = number, type(optimizer)
        self.owners = Owners(optimizer)
        self.imposed: ImposedOptimizer | None = None
        self.calls = self.updates = 0
        self.looks_left = LOOKS
        self.passes = 0  # backward passes at the last step
        self._cleared = Counter[bool]()  # by whether zeros were left
        self._had: set[int] = set()  # ids of parameters that were left with zeros
        self._is_uneven = False  # not all parameters are cleared, or not all in the same way

    @property
    def zeros(self) -> bool | None:  # noqa: D102 - the class documents it
        return None if self._is_uneven or len(self._cleared) != 1 else next(iter(self._cleared))

    def before_pass(self) -> None:
        """Look at how the script has cleared, at the first backward passes after its first step."""
        self.looks_left -= 1
        parameters = self.owners.parameters()
        grads = [each.grad for each in parameters]
        empty = [is_empty(each) for each in grads]
        if any(empty):
            self._cleared[any(each is not None for each in grads)] += 1
            left = {id(each) for each, grad in zip(parameters, grads, strict=True) if grad is not None}
            if not all(empty) or (left and not self._had <= left):
                self._is_uneven = True
            self._had |= left


class Judged(NamedTuple):
    """What the check found: the number of steps whose gradient was what the mode says, and of others by reason."""

    good: int
    faults: dict[str, int]


class TrackedOptimizers:
    """All optimizers of a script.

    Attributes:
        imposed: those that the mode is imposed on; with the same parameters, they are one.
        stepping: those whose step is under way, from the outermost to the innermost.
        created: the number of optimizers, those with the same class and parameters counted once.
    """

    def __init__(self, mode: Mode | None, only: int | None = None) -> None:
        self._mode, self._only = mode, only
        self.imposed: list[ImposedOptimizer] = []
        self.created = 0
        self._tracked: list[TrackedOptimizer] = []
        self._by_id: dict[int, tuple[weakref.ref[Optimizer], TrackedOptimizer]] = {}
        self.stepping: list[TrackedOptimizer] = []
        self._checks: list[Check] = []  # of all that the mode was imposed on

    def __iter__(self) -> Iterator[TrackedOptimizer]:
        return iter(self._tracked)

    def add(self, optimizer: Optimizer, *, in_window: bool) -> TrackedOptimizer:
        """Track an optimizer; `in_window` says that there were backward passes before."""
        kind = type(optimizer)
        tracked = next((each for each in self._tracked if each.kind is kind and each.owners.join(optimizer)), None)
        if tracked is None:
            self._drop()
            self.created += 1
            tracked = TrackedOptimizer(optimizer, self.created)
            self._tracked.append(tracked)
        key, by_id = id(optimizer), self._by_id
        by_id[key] = weakref.ref(optimizer, lambda _: by_id.pop(key, None)), tracked
        if self._mode is not None and self._only in (None, tracked.number):
            tracked.imposed = self._imposed(optimizer, self._mode, in_window=in_window)
        return tracked

    def _imposed(self, optimizer: Optimizer, mode: Mode, *, in_window: bool) -> ImposedOptimizer:
        for each in self.imposed:
            if each.owners.join(optimizer):
                return each
        imposed = ImposedOptimizer(optimizer, mode, in_window=in_window)
        own = {*map(id, parameters_of(optimizer))}
        for each in self.imposed:
            if not own.isdisjoint(map(id, each.owners.parameters())):
                each.share_with(imposed)
        self.imposed.append(imposed)
        self._checks.append(imposed.check)
        return imposed

    def _drop(self) -> None:
        """Forget optimizers whose parameters are gone."""
        self._tracked = [each for each in self._tracked if not each.owners.are_gone]
        gone = [each for each in self.imposed if each.owners.are_gone]
        for each in gone:
            each.check.forget()
            self.imposed.remove(each)
            for other in each.sharing:
                other.sharing.remove(each)

    def of(self, optimizer: Optimizer) -> TrackedOptimizer:
        """Return the tracked optimizer; track one that was copied, say, and so never constructed."""
        found = self._by_id.get(id(optimizer))
        if found is None or found[0]() is not optimizer:
            return self.add(optimizer, in_window=True)
        return found[1]

    def imposed_on(self, optimizer: Any) -> ImposedOptimizer | None:
        """Return what imposes the mode on this optimizer; None if nothing does."""
        found = self._by_id.get(id(optimizer))
        return found[1].imposed if found is not None else None

    def parameters(self) -> list[Tensor]:
        """Return the parameters of all optimizers that are alive, in the order of construction."""
        alive = [optimizer for reference, _ in self._by_id.values() if (optimizer := reference()) is not None]
        return [parameter for optimizer in alive for parameter in parameters_of(optimizer)]

    # Passes and steps

    def before_pass(self) -> None:
        """Put kept gradients into `.grad`; without a mode, look at how the script has cleared."""
        imposed = self.imposed
        if len(imposed) == 1:
            imposed[0].put()
            imposed[0].before_pass()
        elif imposed:
            due = [each for each in imposed if each.put()]  # before others are found cleared
            for each in due:
                each.before_pass()
            for each in imposed:
                if each not in due:
                    each.before_pass()
        elif self._mode is None:
            for tracked in self._tracked:
                if tracked.updates and tracked.looks_left:
                    tracked.before_pass()

    def after_pass(self) -> None:
        """Note what the backward pass left in `.grad`."""
        for each in self.imposed:
            each.after_pass()

    def is_part(self, tracked: TrackedOptimizer) -> bool:
        """Say whether a step is part of another one: of the same optimizer, or of one around it."""
        for outer in self.stepping:
            if outer is tracked or (outer.imposed is tracked.imposed is not None):
                return True
            if outer.imposed is not None or tracked.imposed is None:
                own = {*map(id, outer.owners.parameters())}
                if all(id(each) in own for each in tracked.owners.parameters()):
                    return True
        return False

    # Result

    def are_altered(self) -> bool:
        """Say whether the script changed gradients before a step, in another way than by clipping or scaling."""
        return any(each.altered for each in self._checks)

    def judged(self) -> Judged:
        """Return what the check found at all steps, or why it found nothing."""
        for each in self._checks:
            each.finish()
        good, later, empty = (
            (sum(counts) for counts in zip(*(each.counts for each in self._checks), strict=True))
            if (self._checks)
            else (0, 0, 0)
        )
        faults = Counter[str]()
        for each in self._checks:
            faults.update(each.faults)
        mode = self._mode
        if mode is None or faults:
            return Judged(good, dict(faults))
        if good and not later and (mode.keep or mode.every > 1 or mode.own):
            return Judged(0, {NO_SECOND: good})
        if not good:
            return Judged(0, {NO_GRADIENT: empty} if empty else {})
        return Judged(good, {})
