"""Doing something as soon as a module has been imported.

A script sets OMP_NUM_THREADS, CUDA_VISIBLE_DEVICES and the like before it imports torch, and these are read at that
moment: so torch is not imported for it, but waited for.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType


def when_imported(name: str, do: Callable[[], None]) -> Callable[[], None]:
    """Call `do` as soon as the module is imported; return what to call to wait no longer."""
    finder = _Finder(name, do)
    sys.meta_path.insert(0, finder)
    return finder.leave


class _Finder:
    """Finds the module where the others do, and lends it a loader that tells when it has been executed."""

    def __init__(self, name: str, do: Callable[[], None]) -> None:
        self.name, self.do = name, do

    def leave(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target  # a module of the top level has no path, and none is loaded anew
        if name != self.name:
            return None
        self.leave()
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = cast("Loader", _Loader(spec.loader, self.do))
        return spec


class _Loader:
    """The module's own loader, but for a word when it is done."""

    def __init__(self, own: Any, do: Callable[[], None]) -> None:
        self._own, self._do = own, do

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._own.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._own
        if module.__spec__ is not None:
            module.__spec__.loader = self._own
        self._own.exec_module(module)
        self._do()
