"""A callback for the import of a module.

Scripts set variables such as OMP_NUM_THREADS and CUDA_VISIBLE_DEVICES before they import torch, which reads them then.
So the audit waits for that import instead of importing torch.
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
    """Call `do` as soon as the module is imported; return a function that cancels this."""
    finder = _Finder(name, do)
    sys.meta_path.insert(0, finder)
    return finder.leave


class _Finder:
    """Finds a module through the other finders, and makes its loader call back after it has run."""

    def __init__(self, name: str, do: Callable[[], None]) -> None:
        self.name, self.do = name, do

    def leave(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target  # top-level modules have no path
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
            del loader.exec_module  # falls back to the method of the class
            execute(module)
            self.do()

        loader.exec_module = exec_module
