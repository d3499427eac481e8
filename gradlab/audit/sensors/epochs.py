"""Epochs: a pass over a DataLoader during which there was a backward pass."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradlab.audit.patching import Patches
    from gradlab.audit.recording import Recorder


def install(patches: Patches, recorders: list[Recorder]) -> None:
    """Tell when such a pass ends. An evaluation has no backward pass, and is no epoch."""
    from torch.utils.data import dataloader

    began: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    def before(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        if recorders and args[0] not in began:
            began[args[0]] = recorders[0].history.backwards

    def after(args: tuple[Any, ...], error: BaseException | None) -> None:
        if not isinstance(error, StopIteration):
            return
        trained = bool(recorders) and recorders[0].history.backwards > began.pop(args[0], 0)
        for recorder in recorders if trained else ():
            recorder.epoch_ended()

    patches.around(dataloader._BaseDataLoaderIter, "__next__", before, after)  # noqa: SLF001 - nothing public tells
