"""Epochs of a script: passes over a DataLoader's dataset during which there were backward passes."""

from __future__ import annotations

import weakref
from typing import Any


class Epochs:
    """Counts the passes over each dataset that backward passes came from.

    A new DataLoader over the same dataset continues the count. Evaluations don't count: no backward pass comes from them.
    Without a DataLoader, all is one epoch.
    """

    def __init__(self) -> None:
        self._current: Any = None  # the iterator that gave the latest batch
        self._trained: weakref.WeakSet[Any] = weakref.WeakSet()  # iterators with a backward pass
        self._passes: dict[int, int] = {}  # such iterators by dataset
        self._datasets: dict[int, Any] = {}  # kept alive, so that their ids stay theirs
        self._epoch = 0

    def fetched(self, iterator: Any) -> None:
        """Note that a batch is fetched from this iterator of a DataLoader."""
        self._current = weakref.ref(iterator)

    def of_pass(self) -> int:
        """Return the epoch of a backward pass, from 0 on."""
        iterator = self._current and self._current()
        if iterator is not None and iterator not in self._trained:
            self._trained.add(iterator)
            dataset = getattr(iterator, "_dataset", None)
            self._datasets[id(dataset)] = dataset
            passes = self._passes[id(dataset)] = self._passes.get(id(dataset), 0) + 1
            self._epoch = max(self._epoch, passes - 1)
        return self._epoch
