"""Modes: what happens to `.grad` between two optimizer steps.

One rule serves them all:

    after every `every` backward passes take an optimizer step; then leave keep × gradient in `.grad`

So a mode is data, a new mode is one factory and one word, and the training loop knows nothing of names.
"""

from __future__ import annotations

import inspect
import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from gradlab import shipped, user_code
from gradlab.errors import ModeError, nearest, shortened, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from torch import nn

    RewriteGrad = Callable[[list[nn.Parameter], int], object]


class _ModeFields(NamedTuple):
    name: str
    keep: float = 0.0
    every: int = 1
    mean: bool = True
    fill: bool = False  # clear by writing zeros; otherwise `.grad` becomes None (set_to_none=True)
    by_batch: bool = False  # each batch of a window counts alike, however many items it has: the mean of means
    own: user_code.FunctionName | None = None  # a user's function, which rewrites `.grad` instead of the rule
    rewrite_grad: RewriteGrad | None = None  # that function, once it is imported


class Mode(_ModeFields):
    """What happens to `.grad` between two optimizer steps.

    With G the content of `.grad`, g the gradient of one backward pass and n the length of the window, an update sees

        G ← keep·G + (g₁ + … + gₙ)/n        (mean: each loss is divided by n)
        G ← keep·G + (g₁ + … + gₙ)          (not mean: the sum)

    where n is `every`, or less in a window that the end of the epoch or of the run cuts short. Where the task counts
    the items c of each batch, the mean is over the items of the window, unless `by_batch`:

        G ← keep·G + (c₁g₁ + … + cₙgₙ)/(c₁ + … + cₙ)

    A sum is that of the batches' means there, too.

    The functions below and `parse` make modes. A name that `parse` knows must have the values that `parse` gives it.

    Raises:
        ModeError: `parse` gives the name other values.
    """

    __slots__ = ()

    def __new__(  # noqa: D102 - the class says it
        cls,
        name: str,
        keep: float = 0.0,
        every: int = 1,
        mean: bool = True,
        fill: bool = False,
        by_batch: bool = False,
        own: user_code.FunctionName | None = None,
        rewrite_grad: RewriteGrad | None = None,
    ) -> Self:
        made = super().__new__(cls, name, keep, every, mean, fill, by_batch, own, rewrite_grad)
        if (meant := _spelled(name)) and meant[1:6] != made[1:6]:
            values = zip(cls._fields[1:6], meant[1:6], made[1:6], strict=True)
            wrong = ", ".join(f"{key}={right}, not {given}" for key, right, given in values if right != given)
            raise ModeError(f"mode '{name}' has {wrong}; gradlab.modes.parse({name!r}) makes it")
        return made

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Self:  # type: ignore[override]  # typeshed binds it to the base
        """Return the mode of these values, checked: `_replace` calls this."""
        return cls(*iterable)


def _named(name: str, keep: float = 0.0, every: int = 1, **values: Any) -> Mode:
    """Return a mode whose name is that of its values, unchecked: to check a name, `Mode` parses it."""
    return tuple.__new__(Mode, _ModeFields(name, keep, every, **values))


def zero_grad(*, fill: bool = False) -> Mode:
    """G ← g. What `optimizer.zero_grad()` does; `fill` is its set_to_none=False."""
    return _named("zero_grad:fill" if fill else "zero_grad", keep=0.0, fill=fill)


def no_zero_grad() -> Mode:
    """G ← G + g. The line that was forgotten: every gradient since the start counts for ever."""
    return _named("no_zero_grad", keep=1.0)


def halve_grad() -> Mode:
    """G ← G/2 + g. `p.grad = p.grad / 2` after each step."""
    return _named("halve_grad", keep=0.5)


def decay(keep: float) -> Mode:
    """G ← keep·G + g, with 0 ≤ keep ≤ 1: the family that the three above belong to.

    With plain SGD this is the heavy ball (Polyak 1964), its momentum equal to keep.
    """
    if not 0 <= keep <= 1:
        wanted = format_number(keep)
        raise ModeError(f"mode 'decay:{wanted}': what is kept must lie between 0 and 1; beyond, write 'keep={wanted}'")
    return _named(f"decay:{format_number(keep)}", keep=keep)


def accumulate(every: int, *, mean: bool = True, by_batch: bool = False) -> Mode:
    """G ← (g₁ + … + gₙ)/n, n = every: gradient accumulation; without `mean` the sum, `by_batch` the mean of means."""
    name = f"accumulate:{_checked_every(every)}{_suffix(mean, by_batch)}"
    return _named(name, every=every, mean=mean, by_batch=by_batch)


def rule(keep: float = 0.0, every: int = 1, *, mean: bool = True, by_batch: bool = False) -> Mode:
    """G ← keep·G + (g₁ + … + gₙ)/n, n = every: the rule itself. Any finite keep, below 0 and above 1 too."""
    if not math.isfinite(keep):
        raise ModeError(f"mode 'keep={keep}': keep must be a finite number")
    name = f"keep={format_number(keep)},every={_checked_every(every)}{_suffix(mean, by_batch)}"
    return _named(name, keep=keep, every=every, mean=mean, by_batch=by_batch)


def own(function: user_code.FunctionName, every: int = 1, *, mean: bool = True, by_batch: bool = False) -> Mode:
    """G ← what a user's function left + (g₁ + … + gₙ)/n, n = every: for what the rule does not cover."""
    suffix = _suffix(mean, by_batch)
    name = function.name + (f",every={every}" if _checked_every(every) > 1 or suffix else "") + suffix
    return _named(name, every=every, mean=mean, by_batch=by_batch, own=function)


# The words that name a mode: spelling, what it builds, and where it is met.
WORDS = {
    "zero_grad": "cleared after every step: optimizer.zero_grad()",
    "zero_grad:fill": "cleared by writing zeros: optimizer.zero_grad(set_to_none=False)",
    "no_zero_grad": "never cleared: the line that was forgotten",
    "halve_grad": "halved after every step: p.grad = p.grad / 2",
    "decay:K": "K times the gradient is kept, 0 <= K <= 1",
    "accumulate:N": "a step every N backward passes, each loss divided by N (accumulate:N:sum: not divided, "
    "the means of batches added; accumulate:N:means: by N even where the task tells how many items each batch has)",
    "keep=K,every=N": "the rule itself, spelled out (:sum and :means as above)",
    "FILE.py:NAME": "your own: def NAME(parameters, update), called after each step; also package.module:NAME",
}

DEFAULT = ("zero_grad", "no_zero_grad", "halve_grad")

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
_SUFFIX = r"(:sum|:means)?"
_DIVISIONS: dict[str | None, dict[str, bool]] = {None: {}, ":sum": {"mean": False}, ":means": {"by_batch": True}}
_SPELLINGS: list[tuple[re.Pattern[str], Callable[[re.Match[str]], Mode]]] = [
    (re.compile(r"zero_grad"), lambda _: zero_grad()),
    (re.compile(r"zero_grad:fill"), lambda _: zero_grad(fill=True)),
    (re.compile(r"no_zero_grad"), lambda _: no_zero_grad()),
    (re.compile(r"halve_grad"), lambda _: halve_grad()),
    (re.compile(rf"decay:({_NUMBER})"), lambda found: decay(float(found[1]))),
    (
        re.compile(rf"accumulate:(\d{{1,9}}){_SUFFIX}"),
        lambda found: accumulate(int(found[1]), **_DIVISIONS[found[2]]),
    ),
    (
        re.compile(rf"keep=({_NUMBER})(?:,every=(\d{{1,9}}))?{_SUFFIX}"),
        lambda found: rule(float(found[1]), int(found[2] or 1), **_DIVISIONS[found[3]]),
    ),
    (
        re.compile(rf"every=(\d{{1,9}})(?:,keep=({_NUMBER}))?{_SUFFIX}"),
        lambda found: rule(float(found[2] or 0), int(found[1]), **_DIVISIONS[found[3]]),
    ),
]


_OWN_SPELLING = re.compile(rf"(?P<function>.+?:[^:,]*?)(?:,every=(?P<every>\d{{1,9}}){_SUFFIX})?")
_FAMILY_FORMS = {  # of the families with a number: how to write them, such as what
    "decay": ("decay:K", "decay:0.9"),
    "accumulate": ("accumulate:N, accumulate:N:sum or accumulate:N:means", "accumulate:4"),
}


def parse(word: str, folder: Path | None = None) -> Mode:
    """Return the mode that `word` names; `-` and `_` are alike, and so are capitals and small letters.

    A user's own, FILE.py:NAME, is looked for in `folder`, in the current folder, then among the experiments that ship;
    it is not imported.

    Raises:
        ModeError: no mode has that name, its number is out of range, or its file does not exist.

    >>> parse("Halve-Grad")
    Mode(name='halve_grad', keep=0.5, every=1, mean=True, fill=False, by_batch=False, own=None, rewrite_grad=None)
    """
    if mode := _spelled(word):
        return mode
    normalised = _normalised(word)
    family = normalised.partition(":")[0]
    if family in _FAMILY_FORMS:
        form, example = _FAMILY_FORMS[family]
        raise ModeError(f"mode '{shortened(word)}' is not of the form {form}, such as {example}")
    found = None if family in WORDS else _OWN_SPELLING.fullmatch(word.strip())
    if found and user_code.is_function_name(found["function"]) and nearest(normalised, ["zero_grad:fill"]) is None:
        function = user_code.find(found["function"], folder, "mode", fallback=shipped.folder())
        return own(function, int(found["every"] or 1), **_DIVISIONS[found[3]])
    several = "\nseveral modes: --mode A --mode B" if "," in word else ""
    raise ModeError(unknown("mode", word, [*WORDS, "package.module:NAME"]) + several)


def load(mode: Mode) -> Mode:
    """Return the mode ready for training: a user's own with its function, which is imported for that.

    Raises:
        ModeError: its file does not import, or has no such function, or that does not take parameters and update, or
            it would not run when it is called.
    """
    if mode.own is None:
        return mode
    rewrite_grad: Any = user_code.load(mode.own)
    for kind, is_one, avoid in _NOT_PLAIN_FUNCTIONS:
        if is_one(rewrite_grad):
            name = mode.own.function
            raise mode.own.error(f": a call of {name} does nothing: it is a {kind} function; no {avoid}")
    try:
        inspect.signature(rewrite_grad).bind([], 0)
    except (TypeError, ValueError):  # the latter where it has no signature
        wanted = f"def {mode.own.function}(parameters, update)"
        raise mode.own.error(f" must take the parameters and the number of the update: {wanted}") from None
    return mode._replace(rewrite_grad=rewrite_grad)


_NOT_PLAIN_FUNCTIONS: list[tuple[str, Callable[[object], bool], str]] = [
    ("generator", inspect.isgeneratorfunction, "yield"),
    ("coroutine", inspect.iscoroutinefunction, "async"),
    ("generator", inspect.isasyncgenfunction, "async"),
]


def matched_lr_scale(mode: Mode) -> float:
    """Return the factor on the lr that gives the mode the effective lr of `zero_grad`.

    The effective lr is lr/(1 − keep), and `every` times that where a window's gradients are summed.

    Raises:
        ModeError: the mode keeps everything or more, so that its effective lr is infinite, or is a user's own.
    """
    if mode.own:
        raise ModeError(f"mode '{mode.name}' is your own: match_lr cannot know what it keeps; leave it out")
    if not -1 < mode.keep < 1:
        raise ModeError(f"mode '{mode.name}' has no effective lr that match_lr could match; leave it out")
    return (1 - mode.keep) / (1 if mode.mean else mode.every)


def format_number(value: float) -> str:
    """Return the shortest text of a number that keeps its value."""
    return repr(int(value)) if abs(value) < 1e15 and value == int(value) else repr(value)


def _spelled(word: str) -> Mode | None:
    """Return the mode that one of `_SPELLINGS` gives, None for any other word."""
    matches = ((pattern.fullmatch(_normalised(word)), build) for pattern, build in _SPELLINGS)
    return next((build(found) for found, build in matches if found), None)


def _normalised(word: str) -> str:
    """Return a word as `_SPELLINGS` has it: lower case, underscores, no spaces."""
    return re.sub(r"-(?=[a-z])", "_", re.sub(r"\s+", "", word).lower())  # the minus of a number stays


def _suffix(mean: bool, by_batch: bool) -> str:
    assert mean or not by_batch, "a sum has no mean of means"
    return ":means" if by_batch else "" if mean else ":sum"


def _checked_every(every: int) -> int:
    if every < 1:
        raise ModeError(f"a mode with a step every {every} backward passes: must be at least 1")
    return every
