"""Modes: what happens to `.grad` between two optimizer steps.

One rule covers all modes:

    after every `every` backward passes take an optimizer step; then leave keep × gradient in `.grad`

So a mode is data. A new mode is one factory and one word; the training loop stays unchanged.
"""

from __future__ import annotations

import inspect
import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from gradlab import shipped, user_code
from gradlab.errors import ModeError, kind_of, nearest, shortened, unknown
from gradlab.wording import either

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
    fill: bool = False  # clear by writing zeros; if False, `.grad` becomes None (set_to_none=True)
    by_batch: bool = False  # the mean of means: batches of a window weigh the same, of any size
    own: user_code.FunctionName | None = None  # a user's function that replaces the rule
    rewrite_grad: RewriteGrad | None = None  # that function, once imported


class Mode(_ModeFields):
    """What happens to `.grad` between two optimizer steps.

    With G the content of `.grad`, g the gradient of one backward pass and n the length of the window, an update sees

        G ← keep·G + (g₁ + … + gₙ)/n        (mean: each loss is divided by n)
        G ← keep·G + (g₁ + … + gₙ)          (not mean: the sum)

    where n is `every`, or less if the epoch or the run ends within the window. If the task counts the items c of
    its batches, the mean is over all items of the window, unless `by_batch`:

        G ← keep·G + (c₁g₁ + … + cₙgₙ)/(c₁ + … + cₙ)

    A sum always adds the means of the batches.

    Make modes with the functions below or with `parse`.

    Raises:
        ModeError: `parse` knows the name and gives it other values.
    """

    __slots__ = ()

    def __new__(  # noqa: D102 - the class documents it
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
        if not isinstance(name, str):
            raise ModeError(
                f"a Mode begins with its name, got {shortened(repr(name))}; use gradlab.modes.rule(keep, every)"
            )
        made = super().__new__(cls, name, keep, every, mean, fill, by_batch, own, rewrite_grad)
        if (meant := _spelled(name)) and meant[1:6] != made[1:6]:
            values = zip(cls._fields[1:6], meant[1:6], made[1:6], strict=True)
            wrong = ", ".join(f"{key}={right}, not {given}" for key, right, given in values if right != given)
            raise ModeError(f"mode '{name}' has {wrong}. Use gradlab.modes.parse({name!r}).")
        return made

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Self:  # type: ignore[override]  # typeshed binds it to the base
        """Return the checked mode of these values. `_replace` calls this."""
        return cls(*iterable)


def _named(name: str, keep: float = 0.0, every: int = 1, **values: Any) -> Mode:
    """Return a mode without the check of `Mode`, which would parse the name."""
    return tuple.__new__(Mode, _ModeFields(name, keep, every, **values))


def zero_grad(*, fill: bool = False) -> Mode:
    """G ← g, as `optimizer.zero_grad()` does. `fill` means set_to_none=False."""
    return _named("zero_grad:fill" if fill else "zero_grad", keep=0.0, fill=fill)


def no_zero_grad() -> Mode:
    """G ← G + g: the forgotten line. All gradients since the start add up."""
    return _named("no_zero_grad", keep=1.0)


def halve_grad() -> Mode:
    """G ← G/2 + g. `p.grad = p.grad / 2` after each step."""
    return _named("halve_grad", keep=0.5)


def decay(keep: float) -> Mode:
    """G ← keep·G + g, with 0 ≤ keep ≤ 1: the family of the three modes above.

    With plain SGD this is heavy-ball momentum (Polyak 1964) with momentum = keep.
    """
    if not 0 <= keep <= 1:
        wanted = format_number(keep)
        raise ModeError(
            f"mode 'decay:{wanted}': decay must be between 0 and 1. For other values, use 'keep={wanted}'."
        )
    return _named(f"decay:{format_number(keep)}", keep=keep)


def accumulate(every: int, *, mean: bool = True, by_batch: bool = False) -> Mode:
    """G ← (g₁ + … + gₙ)/n, n = every: gradient accumulation. `mean=False` sums; `by_batch` takes the mean of means."""
    name = f"accumulate:{_checked_every(every)}{_suffix(mean, by_batch)}"
    return _named(name, every=every, mean=mean, by_batch=by_batch)


def rule(keep: float = 0.0, every: int = 1, *, mean: bool = True, by_batch: bool = False) -> Mode:
    """G ← keep·G + (g₁ + … + gₙ)/n, n = every: the rule itself. keep is any finite number."""
    if not math.isfinite(keep):
        raise ModeError(f"mode 'keep={keep}': keep must be a finite number")
    name = f"keep={format_number(keep)},every={_checked_every(every)}{_suffix(mean, by_batch)}"
    return _named(name, keep=keep, every=every, mean=mean, by_batch=by_batch)


def own(function: user_code.FunctionName, every: int = 1, *, mean: bool = True, by_batch: bool = False) -> Mode:
    """G ← G as a user's function left it + (g₁ + … + gₙ)/n, n = every."""
    suffix = _suffix(mean, by_batch)
    name = function.name + (f",every={every}" if _checked_every(every) > 1 or suffix else "") + suffix
    return _named(name, every=every, mean=mean, by_batch=by_batch, own=function)


# Names of modes and their meaning
WORDS = {
    "zero_grad": "cleared after every step: optimizer.zero_grad()",
    "zero_grad:fill": "cleared by writing zeros: optimizer.zero_grad(set_to_none=False)",
    "no_zero_grad": "never cleared: the forgotten line",
    "halve_grad": "halved after every step: p.grad = p.grad / 2",
    "decay:K": "multiplied by K after every step, 0 <= K <= 1",
    "accumulate:N": "gradient accumulation: a step every N backward passes, each loss divided by N. "
    "accumulate:N:sum does not divide. accumulate:N:means divides by N even if batches differ in size.",
    "keep=K,every=N": "the rule itself: keep K times the gradient, step every N passes. Takes :sum and :means too.",
    "FILE.py:NAME": "your own def NAME(parameters, update), called after every step. Also package.module:NAME.",
}

AS_WRITTEN = "as_written"  # in place of a mode: a user's script on which none is imposed
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
_FAMILY_FORMS = {  # families with a number: form, example
    "decay": ("decay:K", "decay:0.9"),
    "accumulate": ("accumulate:N, accumulate:N:sum or accumulate:N:means", "accumulate:4"),
}


def parse(word: str, folder: Path | None = None) -> Mode:
    """Return the mode of this name. `-` equals `_`, and case does not matter.

    A user's FILE.py:NAME is searched in `folder`, the current folder, then the shipped experiments. It is not
    imported.

    Raises:
        ModeError: the mode is unknown, its number is out of range, or its file does not exist.

    >>> parse("Halve-Grad")
    Mode(name='halve_grad', keep=0.5, every=1, mean=True, fill=False, by_batch=False, own=None, rewrite_grad=None)
    """
    if mode := _spelled(word):
        return mode
    normalised = _normalised(word)
    family = normalised.partition(":")[0]
    if family in _FAMILY_FORMS:
        form, example = _FAMILY_FORMS[family]
        raise ModeError(f"mode '{shortened(word)}' must have the form {form}, as in {example}")
    found = None if family in WORDS else _OWN_SPELLING.fullmatch(word.strip())
    if found and user_code.is_function_name(found["function"]) and nearest(normalised, ["zero_grad:fill"]) is None:
        function = user_code.find(found["function"], folder, "mode", fallback=shipped.folder())
        return own(function, int(found["every"] or 1), **_DIVISIONS[found[3]])
    hint = either("--mode A --mode B", 'modes=["A", "B"]')
    several = f"\nFor several modes, use {hint}." if "," in word else ""
    raise ModeError(unknown("mode", word, [*WORDS, "package.module:NAME"]) + several)


def checked_word(word: object) -> str:
    """Return a value from the user's code that should be a mode's word.

    Raises:
        ModeError: it is no string.
    """
    if isinstance(word, str):
        return word
    hint = "\nwrite a function of your own to a file, and pass 'FILE.py:NAME'" if callable(word) else ""
    raise ModeError(f"expected a mode's word or a Mode, got {kind_of(word)}: {shortened(repr(word))}{hint}")


def load(mode: Mode | str) -> Mode:
    """Return the mode, or that of a word, ready for training: import the function of a user's own mode.

    Raises:
        ModeError: the word is unknown, the file cannot be imported, has no such function, the function does not take
            parameters and update, or it is a generator or coroutine.
    """
    if not isinstance(mode, Mode):
        mode = parse(checked_word(mode))
    if mode.own is None:
        return mode
    rewrite_grad: Any = user_code.load(mode.own)
    for kind, is_one, avoid in _NOT_PLAIN_FUNCTIONS:
        if is_one(rewrite_grad):
            name = mode.own.function
            raise mode.own.error(f": {name} is a {kind} function, so calling it does nothing. Remove {avoid}.")
    try:
        inspect.signature(rewrite_grad).bind([], 0)
    except (TypeError, ValueError):  # ValueError if it has no signature
        wanted = f"def {mode.own.function}(parameters, update)"
        raise mode.own.error(f" must take the parameters and the update number: {wanted}") from None
    return mode._replace(rewrite_grad=rewrite_grad)


_NOT_PLAIN_FUNCTIONS: list[tuple[str, Callable[[object], bool], str]] = [
    ("generator", inspect.isgeneratorfunction, "yield"),
    ("coroutine", inspect.iscoroutinefunction, "async"),
    ("generator", inspect.isasyncgenfunction, "async"),
]


def matched_lr_scale(mode: Mode | str) -> float:
    """Return the factor on the lr that gives the mode, or that of a word, the effective lr of `zero_grad`.

    The effective lr is lr/(1 − keep). If the gradients of a window are summed, it is `every` times that.

    Raises:
        ModeError: keep is not between -1 and 1, or the mode is a user's own.
    """
    if isinstance(mode, str):
        mode = parse(mode)
    if mode.own:
        raise ModeError(f"match_lr cannot compute the effective lr of your own mode '{mode.name}'. Remove match_lr.")
    if not -1 < mode.keep < 1:
        keep = format_number(mode.keep)
        raise ModeError(f"match_lr needs -1 < keep < 1, but mode '{mode.name}' has keep={keep}. Remove match_lr.")
    return (1 - mode.keep) / (1 if mode.mean else mode.every)


def format_number(value: float) -> str:
    """Return the shortest text that represents the number exactly."""
    return repr(int(value)) if abs(value) < 1e15 and value == int(value) else repr(value)


def _spelled(word: str) -> Mode | None:
    """Return the mode of a word in `_SPELLINGS`, None for any other word."""
    matches = ((pattern.fullmatch(_normalised(word)), build) for pattern, build in _SPELLINGS)
    return next((build(found) for found, build in matches if found), None)


def _normalised(word: str) -> str:
    """Return a word in lower case, with underscores, without spaces."""
    return re.sub(r"-(?=[a-z])", "_", re.sub(r"\s+", "", word).lower())  # keeps the minus of a number


def _suffix(mean: bool, by_batch: bool) -> str:
    assert mean or not by_batch, "a sum has no mean of means"
    return ":means" if by_batch else "" if mean else ":sum"


def _checked_every(every: int) -> int:
    if every < 1:
        raise ModeError(f"the number of backward passes per step must be at least 1, got {every}; write accumulate:4")
    return every
