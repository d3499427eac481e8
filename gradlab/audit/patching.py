"""Putting something around a function for a while, and putting it back."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Arguments = tuple[tuple[Any, ...], dict[str, Any]]
    Before = Callable[[tuple[Any, ...], dict[str, Any]], Arguments]
    After = Callable[[tuple[Any, ...], BaseException | None], None]

# A warning is told of the line that called, so many frames up; frames of such a file name are not counted. So what
# torch warns of is told of the script's line, as it is without the audit.
UNCOUNTED = "<gradlab importlib._bootstrap>"


class Patches:
    """What has been patched, so that it can be restored."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], object]] = []

    def around(self, owner: Any, name: str, before: Before | None = None, after: After | None = None) -> None:
        """Let calls of `owner.name`, where there is one, be preceded and followed by these.

        `before` returns the arguments to call with; `after` hears these, and what was raised. Neither may raise.
        """
        original = vars(owner).get(name)
        if original is None:
            return
        patched = _wrapped(original, before, after)
        setattr(owner, name, patched)

        def restore() -> None:
            if vars(owner).get(name) is patched:  # else somebody has patched it since, and calls ours: leave that
                setattr(owner, name, original)

        self._undo.append(restore)

    def later(self, undo: Callable[[], object]) -> None:
        """Call this at the end."""
        self._undo.append(undo)

    def restore(self) -> None:
        """Put all back, the last one first."""
        while self._undo:
            self._undo.pop()()


def _wrapped(original: Callable[..., Any], before: Before | None, after: After | None) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:  # pragma: no cover - it runs under another file name
        if before is not None:
            args, kwargs = before(args, kwargs)
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            if after is not None:
                after(args, error)
            raise
        if after is not None:
            after(args, None)
        return result

    call.__code__ = call.__code__.replace(co_filename=UNCOUNTED)
    patched = functools.wraps(original)(call)
    vars(patched)["_torchdynamo_disable"] = True  # torch.compile: call it, do not trace it
    return patched
