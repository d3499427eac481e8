"""Parameters that gradient reaches and no optimizer holds."""

from __future__ import annotations

import weakref
from collections import Counter
from typing import TYPE_CHECKING

from gradlab.audit.history.parameters import LOOKS, Unowned
from gradlab.audit.recording.samples import written_fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

    from gradlab.audit.history.history import History
    from gradlab.audit.places import Place
    from gradlab.audit.recording.names import Namer

MOST_REPORTED = 256


class _Suspect:
    """A parameter that gradient reaches, but no optimizer holds, and that has not moved so far."""

    def __init__(self, tensor: Tensor, since: int) -> None:
        self.tensor = weakref.ref(tensor)
        self.fingerprint = written_fingerprint(tensor)
        self.since = since
        self.seen_at = since  # the latest update
        self.looks = 1
        self.places: Counter[Place] = Counter()
        self.reported: Unowned | None = None


class UnownedParameters:
    """Finds parameters without an optimizer in the leaves of losses, and reports them to the history."""

    def __init__(self, history: History, namer: Namer) -> None:
        self._history = history
        self._namer = namer
        self._owned: dict[int, weakref.ref[Tensor]] = {}  # held by an optimizer, now or earlier
        self._suspects: dict[int, _Suspect | None] = {}  # None: it has moved

    def add_owned(self, parameters: Iterable[Tensor]) -> None:
        """Add parameters that an optimizer holds."""
        for p in parameters:
            if not self.is_owned(p):
                self._owned[id(p)] = weakref.ref(p)

    def look(
        self,
        leaves: dict[int, Tensor],
        place: Place | None,
        update: int,
        silent: Callable[[], list[Tensor]],
        *,
        only_stale: bool = False,
    ) -> None:
        """Check the leaves of a loss, by id, before an update.

        `silent` returns the parameters in optimizers that have had no gradient so far. With `only_stale`, parameters
        count only if they replace such ones.
        """
        from torch import nn

        due = []
        for key, leaf in leaves.items():
            suspect = self._suspect(key, leaf, update) if isinstance(leaf, nn.Parameter) else None
            if suspect and not suspect.reported:
                suspect.places.update([place] if place else [])
                if suspect.looks >= LOOKS:
                    due.append((suspect, leaf))
        if due and not self._namer.exhausted and len(self._history.unowned) < MOST_REPORTED:
            self._report(due, [p for p in silent() if id(p) not in leaves], only_stale=only_stale)

    def is_input(self, leaf: Tensor) -> bool:
        """Say whether a leaf is an input that asks for gradient: no parameter, and in no optimizer."""
        from torch import nn

        return not isinstance(leaf, nn.Parameter) and not self.is_owned(leaf)

    def is_owned(self, tensor: Tensor) -> bool:
        """Say whether an optimizer holds this parameter, now or earlier."""
        known = self._owned.get(id(tensor))
        return known is not None and known() is tensor

    def _suspect(self, key: int, leaf: Tensor, update: int) -> _Suspect | None:
        """Return the suspect of a parameter that no optimizer holds; None if something else moves it."""
        suspect = self._suspects.get(key)
        if suspect is not None and suspect.tensor() is not leaf:
            del self._suspects[key]
            suspect = None
        if self.is_owned(leaf) or (suspect and suspect.fingerprint != written_fingerprint(leaf)):
            if suspect and suspect.reported:
                self._history.unowned.remove(suspect.reported)
            if suspect:
                self._suspects[key] = None
            return None
        if suspect is None and key not in self._suspects:
            suspect = self._suspects[key] = _Suspect(leaf, update)
        elif suspect and update > suspect.seen_at:
            suspect.seen_at = update
            suspect.looks += 1
        return suspect

    def _report(self, due: list[tuple[_Suspect, Tensor]], silent: list[Tensor], *, only_stale: bool) -> None:
        """Report parameters that no optimizer holds, and the number of replaced ones that one still holds.

        Replaced parameters have had no gradient so far, and no model holds them. Every new parameter needs one with
        the same number of dimensions.
        """
        named = self._namer.name([*(leaf for _, leaf in due), *silent])
        lost = [len(each.shape) for each in named[len(due) :] if not each.name]
        instead_of = len(lost) if {leaf.dim() for _, leaf in due} <= set(lost) else 0
        if only_stale and not instead_of:
            return
        for (suspect, _), parameter in zip(due, named[: len(due)], strict=True):
            places = tuple(sorted(suspect.places))
            suspect.reported = Unowned(parameter, suspect.since, places, instead_of if parameter.name else 0)
            self._history.unowned.append(suspect.reported)
