"""Epochs of a script: passes over a DataLoader's dataset during which there were backward passes."""

from __future__ import annotations

import weakref
from typing import Any


class Epochs:
    """Counts the passes over each dataset that backward passes came from.

    A new DataLoader over the same dataset continues the count. Evaluations don't count: no backward pass comes from
    them. Without a DataLoader, all is one epoch.
    """

    def __init__(self) -> None:
        self._current: Any = None  # the iterator that gave the latest batch
        self._trained: weakref.WeakSet[Any] = weakref.WeakSet()  # iterators with a backward pass
        self._latest: Any = None  # one of them
        self._over: weakref.WeakSet[Any] = weakref.WeakSet()  # exhausted ones
        self._passes: dict[int, int] = {}  # such iterators by dataset
        self._datasets: dict[int, Any] = {}  # kept alive, so that their ids stay theirs
        self._epoch = 0

    def fetches(self, iterator: Any) -> None:
        """Note that a batch is fetched from this iterator of a DataLoader."""
        current = self._current
        if current is None or current() is not iterator:
            self._current = weakref.ref(iterator)

    def exhausted(self, iterator: Any) -> None:
        """Note that this iterator has no more batches."""
        self._over.add(iterator)

    def restarted(self, iterator: Any) -> None:
        """Note that an iterator with persistent workers starts again."""
        self._trained.discard(iterator)
        self._over.discard(iterator)
        if self._latest is not None and self._latest() is iterator:
            self._latest = None

    def of_pass(self) -> int:
        """Return the epoch of a backward pass, from 0 on."""
        if self._current is None or self._current is self._latest:
            return self._epoch
        iterator = self._current()
        if iterator is None or iterator in self._trained or self._is_evaluation(iterator):
            return self._epoch
        self._trained.add(iterator)
        self._latest = self._current
        dataset = getattr(iterator, "_dataset", None)
        self._datasets[id(dataset)] = dataset
        passes = self._passes[id(dataset)] = self._passes.get(id(dataset), 0) + 1
        self._epoch = max(self._epoch, passes - 1)
        return self._epoch

    def _is_evaluation(self, iterator: Any) -> bool:
        """Say whether this one ended in between, while the batch that is trained on was fetched ahead from another."""
        latest = self._latest and self._latest()
        return iterator in self._over and latest is not None and latest not in self._over
