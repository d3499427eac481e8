"""Hook for epochs: passes over a DataLoader during which there was a backward pass.

A hook does not see the end of a pass that is left early. With prefetching, a pass ends before its last backward pass.
So the start of the next pass over the same dataset is recorded too. Lists and range() have no hooks.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradlab.audit.history.trace import Event

if TYPE_CHECKING:
    from gradlab.audit.hooks.patching import Patches
    from gradlab.audit.recording.recorder import Recorder


@dataclass(slots=True)
class _LoaderPass:
    """A running pass over a DataLoader."""

    data: weakref.ref[Any] | None  # see `_data_of`
    backwards: int  # at its start
    updates: int  # at its start
    trained: bool = False  # there were updates since


def _data_of(iterator: Any) -> weakref.ref[Any] | None:
    """Return a reference to the dataset. A list allows none: then to the DataLoader's own sampler."""
    for name in ("_dataset", "_index_sampler"):
        try:
            return weakref.ref(getattr(iterator, name, None))
        except TypeError:
            continue
    return None


def install(patches: Patches, recorders: list[Recorder]) -> None:
    """Record the end of an epoch and the start of the next. Evaluations don't count: they have no backward pass."""
    from torch.utils.data import dataloader

    under_way: weakref.WeakKeyDictionary[Any, _LoaderPass] = weakref.WeakKeyDictionary()
    latest: list[_LoaderPass] = []  # of each dataset that is alive; it may not be hashable

    def before(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        if not recorders:
            return
        for recorder in recorders:
            recorder.batch_given(id(getattr(args[0], "_index_sampler", None)))  # the same for one DataLoader
        history, now = recorders[0].history, under_way.get(args[0])
        if now is None:
            now = under_way[args[0]] = _LoaderPass(_data_of(args[0]), history.backwards, history.updates)
            alive = [each for each in latest if each.data and each.data() is not None]
            data = now.data() if now.data else None
            same = [each for each in alive if each.data and each.data() is data]
            latest[:] = [*(each for each in alive if each not in same), now]
            for recorder in recorders if same and same[0].trained else ():
                recorder.happened_to_all(Event.EPOCH_STARTED)
        elif history.updates > now.updates:
            now.trained = True

    def after(args: tuple[Any, ...], error: BaseException | None) -> None:
        if not isinstance(error, StopIteration):
            return
        ended = under_way.pop(args[0], None)
        trained = ended is not None and bool(recorders) and recorders[0].history.backwards > ended.backwards
        for recorder in recorders if trained else ():
            recorder.happened_to_all(Event.EPOCH_ENDED)

    patches.around(dataloader._BaseDataLoaderIter, "__next__", before, after)  # noqa: SLF001 - no public equivalent
