"""Checks of an optimizer's parameters: without gradient, frozen but moving, not finite."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from gradlab.audit.history.parameters import LOOKS, Moved, NotFinite, Parameter
from gradlab.audit.recording.samples import all_are_finite, fingerprint, has_nan, is_finite, is_zero, sample

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from torch import Tensor

    from gradlab.audit.history.history import OptimizerHistory
    from gradlab.audit.recording.names import Namer
    from gradlab.audit.recording.samples import Groups, Key, Sample

SILENT = 8  # updates without gradient before a parameter is reported
MOST_REPORTED = 256  # parameters
FEW = 4  # parameters with names in a report


class ParameterChecks:
    """Checks the parameters of one optimizer, and writes mistakes to its history."""

    def __init__(self, history: OptimizerHistory, namer: Namer) -> None:
        self._history = history
        self._namer = namer
        self.silent: list[Key] = []  # without gradient so far
        self.trusted = False  # the loss was finite; inf and nan in gradients show up a few updates later anyway
        self.checking = False  # whether the running step is checked
        self._counted = 0  # number of parameters at the last check
        self._trained: set[Key] = set()  # have required gradient at some time
        self._frozen: dict[Key, tuple[object, Sample]] = {}  # frozen since, with a gradient: state before the step
        self._left: dict[Key, Sample] = {}  # gradients of frozen ones at the last step
        self._lost_at = 0  # the latest update after which a loss was nan or inf, of those that are not measured
        self._finite_at = 0  # the latest update with certainly finite gradients

    @property
    def had_gradient(self) -> bool:
        """Whether any parameter has had a gradient so far."""
        return len(self.silent) < self._counted

    # Backward passes

    def loss_is(self, groups: Groups, *, finite: bool, graph_read: bool, first: bool) -> None:
        """Note whether the loss is certainly finite, which means that the weights are finite too.

        `first` is true for the first backward pass of a window.
        """
        update = self._history.updates
        self.trusted = finite and not graph_read and (self.trusted or first)
        if finite:
            self._finite_at = update
        elif update and self._history.seen.not_finite is None:
            self._add_not_finite(groups, [key for key, p in _keyed(groups) if not is_finite(p)])

    def loss_is_lost(self, groups: Groups) -> None:
        """Check the weights, because the loss is nan or inf at an update that is not measured."""
        update, seen = self._history.updates, self._history.seen.not_finite
        if not update or update == self._lost_at or (seen and seen.times >= LOOKS):
            return
        self._lost_at = update
        keys = [key for key, p in _keyed(groups) if not is_finite(p)]
        if seen:
            seen.times += bool(keys)
        else:
            self._add_not_finite(groups, keys)

    def loss_reaches(self, groups: Groups, leaves: Container[int]) -> None:
        """Remove parameters that the gradient is about to reach from the silent ones."""
        if self.silent:
            self._keep_silent([(key, id(p) not in leaves) for key, p in _present(groups, self.silent)])

    def silent_parameters(self, groups: Groups) -> list[Tensor]:
        """Return the parameters that require gradient but have had none so far."""
        return [p for _, p in _present(groups, self.silent)]

    # Steps

    def step_started(self, groups: Groups, *, measured: bool) -> None:
        """Check the gradients before a step."""
        self._strike_off_those_with_gradient(groups)
        self.checking = measured
        if not measured:
            return
        self._history.note_groups(groups)
        count = self._history.parameters
        for key, p in _keyed(groups):
            if not p.requires_grad and p.grad is not None and key in self._trained:
                self._frozen[key] = fingerprint(p), sample(p.grad)
        if count != self._counted or len(self._trained) < count:
            self._trained.update(key for key, p in _keyed(groups) if p.requires_grad)
        if count != self._counted:
            known = {*self.silent, *(key for key, _ in islice(_keyed(groups), self._counted))}
            self.silent += [
                key for key, p in _keyed(groups) if p.grad is None and p.requires_grad and key not in known
            ]
            self._counted = count

    def step_ended(self, groups: Groups) -> None:
        """Check the parameters after a step, which is already counted."""
        self._strike_off_those_with_gradient(groups)
        if not self.checking:
            return
        self.checking = False
        frozen, self._frozen = self._frozen, {}
        if frozen:
            self._check_frozen(groups, frozen)
        self._check_finite(groups)
        if self.silent and self._history.updates >= SILENT and not self._history.seen.silent:
            self._add_silent(groups)

    def ended(self, groups: Groups) -> None:
        """Check at the end whether weights are nan, so that nan in the last updates is reported too."""
        seen = self._history.seen.not_finite
        if not self._history.updates or (seen and seen.times >= LOOKS):
            return
        trained = [(key, p) for key, p in _keyed(groups) if p.requires_grad]
        if all_are_finite([p.detach() for _, p in trained]):
            return
        keys = [key for key, p in trained if has_nan(p)]
        if keys and seen:
            seen.at_end = True
        elif keys:
            few = self._named(groups, keys[:FEW])
            seen = NotFinite(self._history.updates, few, len(keys), self._finite_at, times=0, at_end=True)
            self._history.seen.not_finite = seen

    def _strike_off_those_with_gradient(self, groups: Groups) -> None:
        if self.silent:
            found = _present(groups, self.silent)
            self._keep_silent([(key, p.grad is None and p.requires_grad) for key, p in found])

    def _keep_silent(self, parameters: list[tuple[Key, bool]]) -> None:
        """Keep only parameters that are still silent."""
        self.silent = [key for key, silent in parameters if silent]
        for key, silent in parameters:
            if not silent:
                self._history.seen.silent.pop(key, None)
                self._history.seen.all_silent = False

    def _add_silent(self, groups: Groups) -> None:
        if self._namer.exhausted:
            return
        reported = [key for key, _ in _present(groups, self.silent)][:MOST_REPORTED]
        self._history.seen.silent.update(zip(reported, self._named(groups, reported), strict=True))
        self._history.seen.asking = sum(p.requires_grad for _, p in _keyed(groups))
        self._history.seen.all_silent = len(self.silent) == self._counted

    def _named(self, groups: Groups, keys: list[Key]) -> list[Parameter]:
        named = self._namer.name([groups[group]["params"][nth] for group, nth in keys])
        return [each._replace(number=_number_of(groups, key)) for key, each in zip(keys, named, strict=True)]

    def _check_frozen(self, groups: Groups, frozen: dict[Key, tuple[object, Sample]]) -> None:
        """Report frozen parameters that moved because of zeros or an old gradient, but not a new one set by hand."""
        moved = self._history.seen.moved
        new: dict[Key, bool] = {}
        for key, (before, grad) in frozen.items():
            zeros, old = is_zero(grad), self._left.get(key) == grad
            self._left[key] = grad
            p = groups[key[0]]["params"][key[1]]
            if p.requires_grad or not (zeros or old) or before is None or fingerprint(p) == before:
                continue
            if key in moved:
                moved[key].times += 1
            elif len(moved) + len(new) < MOST_REPORTED:
                new[key] = zeros
        if new:  # one search for all names
            for (key, zeros), named in zip(new.items(), self._named(groups, list(new)), strict=True):
                moved[key] = Moved(named, self._history.updates, zeros)

    def _check_finite(self, groups: Groups) -> None:
        """Report gradients with inf or nan if the weights are not finite either."""
        seen = self._history.seen.not_finite
        if seen.times >= LOOKS if seen else self.trusted:
            return
        having = [(key, p) for key, p in _keyed(groups) if p.grad is not None]
        if not all_are_finite([p.grad for _, p in having if p.grad is not None]):
            wrong = [(key, p) for key, p in having if p.grad is not None and not is_finite(p.grad)]
            if not all(is_finite(p) for _, p in wrong):
                if seen:
                    seen.times += 1
                else:
                    self._add_not_finite(groups, [key for key, _ in wrong])
                return
        self._finite_at = self._history.updates

    def _add_not_finite(self, groups: Groups, keys: list[Key]) -> None:
        """Report the parameters with inf or nan after the latest update, if any."""
        if keys:
            few = self._named(groups, keys[:FEW])
            self._history.seen.not_finite = NotFinite(self._history.updates, few, len(keys), self._finite_at)


def _keyed(groups: Groups) -> Iterator[tuple[Key, Tensor]]:
    """Yield every parameter and its key."""
    for group, each in enumerate(groups):
        for nth, p in enumerate(each["params"]):
            yield (group, nth), p


def _present(groups: Groups, keys: list[Key]) -> list[tuple[Key, Tensor]]:
    """Return these parameters, except those that were removed from the groups."""
    return [
        ((group, nth), groups[group]["params"][nth])
        for group, nth in keys
        if group < len(groups) and nth < len(groups[group]["params"])
    ]


def _number_of(groups: Groups, key: Key) -> int:
    """Return the index of a parameter in its optimizer, from 0."""
    return sum(len(group["params"]) for group in groups[: key[0]]) + key[1]
