"""Patches: temporary wrappers around functions."""

from __future__ import annotations

import functools
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from gradlab.audit.hooks.untraced import untraced
from gradlab.audit.places import UNCOUNTED

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CellType

    Arguments = tuple[tuple[Any, ...], dict[str, Any]]
    Before = Callable[[tuple[Any, ...], dict[str, Any]], Arguments | None]
    After = Callable[[tuple[Any, ...], BaseException | None], None]


class Patches(ExitStack):
    """Patched functions; `close` restores them in reverse order."""

    def around(self, owner: Any, name: str, before: Before | None = None, after: After | None = None) -> None:
        """Call `before` and `after` around every call of `owner.name`, if it exists.

        `before` returns new arguments, or None to keep them. `after` gets the arguments and the exception, if any.
        Neither may raise.
        """
        if name in vars(owner):
            self.replace(owner, name, lambda original: _wrapped(original, before, after))

    def within(self, function: Any, before: Before) -> bool:
        """Call `before` ahead of the function inside `function`, a decorated one of torch.

        This also covers names that were imported earlier, which cannot be replaced. Return False if `function` is not
        decorated.
        """
        inner = getattr(function, "__wrapped__", None)
        for cell in getattr(function, "__closure__", None) or ():
            if inner is not None and cell.cell_contents is inner:
                patched = _disguised(_wrapped(inner, before, None), inner)
                cell.cell_contents = patched
                self.callback(_refill, cell, patched, inner)
                return True
        return False

    def replace(self, owner: Any, name: str, made: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Replace `owner.name` with `made(owner.name)`."""
        original = vars(owner)[name]
        patched = _disguised(made(original), original)
        setattr(owner, name, patched)
        self.callback(_restore, owner, name, patched, original)


def _restore(owner: Any, name: str, patched: Any, original: Any) -> None:
    if vars(owner).get(name) is patched:  # else a later patch calls ours: keep that
        setattr(owner, name, original)


def _refill(cell: CellType, patched: Any, original: Any) -> None:
    if cell.cell_contents is patched:
        cell.cell_contents = original


def _wrapped(original: Callable[..., Any], before: Before | None, after: After | None) -> Callable[..., Any]:
    before, after = before and untraced(before), after and untraced(after)

    def call(*args: Any, **kwargs: Any) -> Any:  # pragma: no cover - it runs under another file name
        if before is not None:
            args, kwargs = before(args, kwargs) or (args, kwargs)
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            if after is not None:
                after(args, error)
            raise
        if after is not None:
            after(args, None)
        return result

    return call


def _disguised(call: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """Make a wrapper look like the original function."""
    call.__code__ = call.__code__.replace(co_filename=UNCOUNTED)
    disguised: Callable[..., Any] = functools.wraps(original)(untraced(call, calls_others=True))
    return disguised
