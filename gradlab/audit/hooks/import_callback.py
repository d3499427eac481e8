"""Calling back as soon as a module has been imported.

A script sets OMP_NUM_THREADS, CUDA_VISIBLE_DEVICES and the like before it imports torch, and these are read at that
moment: so the audit waits for torch and does not import it.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


def call_when_imported(name: str, do: Callable[[], None]) -> Callable[[], None]:
    """Call `do` as soon as the module is imported; return what to call to wait no longer."""
    finder = _Finder(name, do)
    sys.meta_path.insert(0, finder)
    return finder.leave


class _Finder:
    """Finds the module where the others do, and lets its loader call back once it has been executed."""

    def __init__(self, name: str, do: Callable[[], None]) -> None:
        self.name, self.do = name, do

    def leave(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target  # a module of the top level has no path, and is not reloaded
        if name != self.name:
            return None
        self.leave()
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            self._call_after(spec.loader)
        return spec

    def _call_after(self, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module  # the class has it
            execute(module)
            self.do()

        loader.exec_module = exec_module
