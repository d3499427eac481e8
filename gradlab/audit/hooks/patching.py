"""Putting something around a function for a while, and putting it back."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.audit.hooks.untraced import untraced
from gradlab.audit.places import UNCOUNTED

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CellType

    Arguments = tuple[tuple[Any, ...], dict[str, Any]]
    Before = Callable[[tuple[Any, ...], dict[str, Any]], Arguments | None]
    After = Callable[[tuple[Any, ...], BaseException | None], None]


class Patches:
    """What has been patched, so that it can be restored."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], object]] = []
        self._calls: dict[tuple[int, str], _Call] = {}

    def around(self, owner: Any, name: str, before: Before | None = None, after: After | None = None) -> None:
        """Let calls of `owner.name`, where there is one, be preceded and followed by these.

        `before` returns the arguments to call with, or None for those that came; `after` hears these, and what was
        raised. Neither may raise. What is put around a function later lies further out: it comes first and last.
        """
        original = vars(owner).get(name)
        if original is None:
            return
        call = self._calls.get((id(owner), name))
        if call is None or call.patched is not original:
            call = self._calls[id(owner), name] = _wrapped(original)
            setattr(owner, name, call.patched)
            self._undo.append(lambda: _restore(owner, name, call.patched, original))
        if before is not None:
            call.before.insert(0, untraced(before))
        if after is not None:
            call.after.append(untraced(after))

    def within(self, function: Any, before: Before) -> bool:
        """Let what `function` is put around, as by a decorator of torch, be preceded by this: however it is called.

        A name that was imported earlier is not to be replaced, but it goes through here all the same. Return whether
        there is such a function within.
        """
        inner = getattr(function, "__wrapped__", None)
        for cell in getattr(function, "__closure__", None) or ():
            if inner is not None and cell.cell_contents is inner:
                call = _wrapped(inner)
                call.before.append(untraced(before))
                cell.cell_contents = call.patched
                self._undo.append(functools.partial(_refill, cell, call.patched, inner))
                return True
        return False

    def replace(self, owner: Any, name: str, made: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Put what is made of `owner.name` in its place: for what is called at each step, and must cost nothing."""
        original = vars(owner)[name]
        patched = _disguised(made(original), original)
        setattr(owner, name, patched)
        self._undo.append(lambda: _restore(owner, name, patched, original))

    def later(self, undo: Callable[[], object]) -> None:
        """Call this at the end."""
        self._undo.append(undo)

    def so_far(self) -> int:
        """Return what `restore` takes to put back what comes after."""
        return len(self._undo)

    def restore(self, so_far: int = 0) -> None:
        """Put all back, the last one first, or what came after `so_far`."""
        if not so_far:
            self._calls.clear()
        while len(self._undo) > so_far:
            self._undo.pop()()


class _Call(NamedTuple):
    """What stands in the place of a function, and what it calls before and after that."""

    patched: Callable[..., Any]
    before: list[Before]
    after: list[After]


def _restore(owner: Any, name: str, patched: Any, original: Any) -> None:
    if vars(owner).get(name) is patched:  # else somebody has patched it since, and calls ours: leave that
        setattr(owner, name, original)


def _refill(cell: CellType, patched: Any, original: Any) -> None:
    if cell.cell_contents is patched:
        cell.cell_contents = original


def _wrapped(original: Callable[..., Any]) -> _Call:
    befores: list[Before] = []
    afters: list[After] = []

    def call(*args: Any, **kwargs: Any) -> Any:  # pragma: no cover - it runs under another file name
        for before in befores:
            changed = before(args, kwargs)
            if changed is not None:
                args, kwargs = changed
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            for after in afters:
                after(args, error)
            raise
        for after in afters:
            after(args, None)
        return result

    return _Call(_disguised(call, original), befores, afters)


def _disguised(call: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function that calls the original look like it."""
    call.__code__ = call.__code__.replace(co_filename=UNCOUNTED)
    disguised: Callable[..., Any] = functools.wraps(original)(untraced(call, alone=True))
    return disguised
