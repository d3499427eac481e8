"""Epochs: a pass over a DataLoader during which there was a backward pass; and the next one over the same dataset.

A pass that is left early has no end that a hook gets, and one whose batches are fetched ahead ends before its last
backward pass: so the start of the next one is recorded too. A list or a range() has no hook at all.
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
    """A pass over a DataLoader under way."""

    backwards: int  # when it began
    updates: int
    trained: bool = False  # updates were taken since


def install(patches: Patches, recorders: list[Recorder]) -> None:
    """Record when such a pass ends, and the next one begins. An evaluation has no backward pass, and is no epoch."""
    from torch.utils.data import dataloader

    under_way: weakref.WeakKeyDictionary[Any, _LoaderPass] = weakref.WeakKeyDictionary()
    latest: dict[int, _LoaderPass] = {}  # of each dataset, by its id: it need not be hashable

    def before(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        if not recorders:
            return
        for recorder in recorders:
            recorder.batch_given()
        history, now = recorders[0].history, under_way.get(args[0])
        if now is None:
            now = under_way[args[0]] = _LoaderPass(history.backwards, history.updates)
            of_dataset = id(getattr(args[0], "_dataset", None))
            last, latest[of_dataset] = latest.get(of_dataset), now
            for recorder in recorders if last is not None and last.trained else ():
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

    patches.around(dataloader._BaseDataLoaderIter, "__next__", before, after)  # noqa: SLF001 - not public otherwise
