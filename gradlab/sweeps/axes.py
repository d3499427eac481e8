"""Axes of a sweep, parsed from `--vary KEY=RANGE` and from `[vary]` in the experiment file."""

from __future__ import annotations

import math
import re
import tomllib
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import experiment as experiments
from gradlab.errors import ExperimentError, GradlabError, raise_together, shortened
from gradlab.experiment.toml_text import why_too_large

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gradlab.experiment import Experiment

MOST_RUNS = 1_000_000  # of a sweep: each becomes a line of the exported file
_RANGE = re.compile(r"[^:,]*\d[^:,]*:[^,]*")  # LOW:HIGH:COUNT, valid or not; a user's task never starts with a digit
_NUMBER = r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)"
_NUMBERS = re.compile(rf"{_NUMBER}\s*:\s*{_NUMBER}\s*:\s*(\d+)\s*(?::\s*(log))?")
_FORM = "a range LOW:HIGH:COUNT or LOW:HIGH:COUNT:log, such as 1e-3:4:33:log, or values A,B,…"
_NO_AXIS = {  # keys that cannot vary, and what to do instead
    "seed": "use --seeds N, or --seed S for each seed",
    "seeds": "use --seeds N, or --seed S for each seed",
    "mode": "use --mode A --mode B, or vary keep or every",
    "modes": "use --mode A --mode B, or vary keep or every",
    **dict.fromkeys(("engine", "device", "threads"), "it is the same for all runs of a sweep"),
    **dict.fromkeys(("name", "title", "expect", "vary", "checkpoint_every", "log"), "it does not affect the runs"),
}
_SHORT = {long: short for short, long in experiments.SHORT_KEYS.items() if short != "learning_rate"}


class Axis(NamedTuple):
    """One setting that varies.

    Attributes:
        key: the key in the experiment file, in its short form if any (lr, batch_size, momentum), or keep or every.
        values: distinct values, in the given order.
        log: whether they were given as a log range.
    """

    key: str
    values: tuple[Any, ...]
    log: bool = False

    @property
    def path(self) -> tuple[str, ...]:
        """The names of the tables that contain the key, then the key."""
        return tuple(experiments.SHORT_KEYS.get(self.key, self.key).split("."))


def axes_of(experiment: Experiment, flags: Iterable[str]) -> tuple[dict[str, Axis], dict[str, str]]:
    """Return the axes by key, and the name of each in messages: its flag, or its place in the file.

    Raises:
        GradlabError: axes are invalid; the message has a line for each.
    """
    subjects: dict[str, str] = {}
    axes: dict[str, Axis] = {}
    faults: list[GradlabError] = []
    for key, value in _flat(experiment.vary):
        subject = f"{experiments.location_of(experiment, 'vary', *key.split('.'))}vary.{key}"
        try:
            axis = _axis(key, value, subject)
        except GradlabError as error:
            faults.append(error)
        else:
            axes[axis.key], subjects[axis.key] = axis, subject
    given: set[str] = set()
    for text in flags:
        try:
            axis = _axis_of_flag(text)
            if axis.key in given:
                raise ExperimentError(f"--vary {axis.key} is given twice")
        except GradlabError as error:
            faults.append(error)
        else:
            given.add(axis.key)
            axes[axis.key], subjects[axis.key] = axis, f"--vary {axis.key}"
    raise_together(faults, ExperimentError)
    return axes, subjects


def _flat(vary: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, object]]:
    """Yield the dotted keys of `[vary]` with their values."""
    for key, value in vary.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield before + key, value


def _axis_of_flag(text: str) -> Axis:
    """Return the axis of `--vary KEY=RANGE`."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ExperimentError(f"--vary {shortened(text)}: write --vary KEY=RANGE, such as --vary lr=1e-3:4:33:log")
    return _axis(key, value, f"--vary {shortened(key)}")


def _axis(key: str, given: object, subject: str) -> Axis:
    """Return the axis of a key, from a list of values or a string."""
    plain = key.strip().replace("-", "_")
    plain = _SHORT.get(experiments.SHORT_KEYS.get(plain, plain), plain)
    if plain in _NO_AXIS:
        raise ExperimentError(f"{subject}: {plain} cannot vary; {_NO_AXIS[plain]}")
    if not all(plain.split(".")):
        raise ExperimentError(f"{subject}: {shortened(key)} is not a key of an experiment file")
    log = False
    if isinstance(given, str):
        values, log = _parsed(given, subject)
    elif isinstance(given, list):
        values = given
    else:
        raise ExperimentError(
            f"{subject} must be {_FORM} as a string, or a list of values, got {shortened(repr(given))}"
        )
    if not values:
        raise ExperimentError(f"{subject} has no values; write {_FORM}")
    if plain in ("keep", "lr"):
        values = [float(each) if type(each) is int else each for each in values]
    _no_doubles(values, subject)
    return Axis(plain, tuple(values), log)


def _no_doubles(values: Sequence[Any], subject: str) -> None:
    seen = set()
    for value in values:
        plain = repr(float(value) if type(value) is int else value)
        if plain in seen:
            raise ExperimentError(f"{subject}: {shortened(value)} is given twice")
        seen.add(plain)


def _parsed(text: str, subject: str) -> tuple[list[Any], bool]:
    """Return the values in a string, and whether they are a log range."""
    text = text.strip()
    if wrong := why_too_large(text):
        raise ExperimentError(f"{subject} {wrong} for an experiment; write {_FORM}")
    if _RANGE.fullmatch(text):
        return _ranged(text, subject)
    try:
        values: list[Any] = tomllib.loads(f"values=[{text}]")["values"]
    except (ValueError, RecursionError):
        values = [_single(part.strip()) for part in text.split(",")]
    if "" in values:
        raise ExperimentError(f"{subject} has an empty value: {shortened(text) or 'nothing'}; write {_FORM}")
    return values, False


def _single(text: str) -> Any:
    """Return a TOML value; anything else is a string without quotes."""
    try:
        return tomllib.loads(f"value={text}")["value"]
    except ValueError:
        return text


def _ranged(text: str, subject: str) -> tuple[list[Any], bool]:
    """Return the values of a range, with exact ends, and whether it is a log range."""
    wrong = f"{subject}={shortened(text)}" if subject.startswith("--") else f"{subject} = {shortened(text)}"
    if not (found := _NUMBERS.fullmatch(text)):
        raise ExperimentError(f"{wrong} is not {_FORM}")
    low, high, counted, log = found.groups()
    if len(counted) > 9 or not 2 <= (count := int(counted)) <= MOST_RUNS:
        raise ExperimentError(f"{wrong}: COUNT must be from 2 to {MOST_RUNS:,}")
    if not math.isfinite(float(low)) or not math.isfinite(float(high)) or not float(low) < float(high):
        raise ExperimentError(f"{wrong}: LOW must be less than HIGH, and both finite")
    if log and float(low) <= 0:
        raise ExperimentError(f"{wrong}: a log range needs LOW greater than 0")
    values = _equal_ratios(float(low), float(high), count) if log else _equal_steps(low, high, count)
    whole = re.fullmatch(r"[+-]?\d+", low) and re.fullmatch(r"[+-]?\d+", high)
    if whole and all(value.is_integer() for value in values):
        values = [int(value) for value in values]
    if len(set(values)) < count:
        raise ExperimentError(f"{wrong}: LOW and HIGH are too close for {count} different numbers")
    return values, log is not None


def _equal_steps(low: str, high: str, count: int) -> list[Any]:
    """Return equal steps, each rounded once from the exact number: 0.3, not 0.30000000000000004."""
    begin, end = Fraction(low), Fraction(high)
    return [float(begin + (end - begin) * nth / (count - 1)) for nth in range(count)]


def _equal_ratios(low: float, high: float, count: int) -> list[Any]:
    """Return equal ratios, rounded to twelve digits; the ends are exact."""
    ratio = math.log(high) - math.log(low)
    inner = [float(f"{low * math.exp(ratio * nth / (count - 1)):.12g}") for nth in range(1, count - 1)]
    return [low, *inner, high]
