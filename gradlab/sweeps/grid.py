"""The grid of a sweep: what varies, and the runs that makes, by number."""

from __future__ import annotations

import math
import re
import tomllib
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import experiment as experiments
from gradlab.errors import ExperimentError, GradlabError, raise_together, shortened, unknown
from gradlab.experiment import RULE_KEYS, check_rule
from gradlab.experiment.toml_text import why_too_large
from gradlab.store import run_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gradlab.experiment import Experiment
    from gradlab.store import Run

MOST_RUNS = 1_000_000  # of a sweep: each has its line in what is exported
ENGINES = ("loop", "ensemble")  # that train sweeps; another one also stands in cells.TOGETHER
DEFAULT_ENGINE = "ensemble"
_RANGE = re.compile(r"[^:,]*\d[^:,]*:[^,]*")  # LOW:HIGH:COUNT, right or wrong; a task of a user begins with no digit
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?")
_FORM = "a range LOW:HIGH:COUNT or LOW:HIGH:COUNT:log, such as 1e-3:4:33:log, or values A,B,…"
_NO_AXIS = {  # keys of an experiment, or nearly, that no axis has: what to do instead
    "seed": "runs of several seeds: --seeds N, or --seed S for each",
    "seeds": "runs of several seeds: --seeds N, or --seed S for each",
    "mode": "several modes: --mode A --mode B; or vary keep or every",
    "modes": "several modes: --mode A --mode B; or vary keep or every",
    **dict.fromkeys(("engine", "device", "threads"), "all runs of a sweep have the same"),
    **dict.fromkeys(("name", "title", "expect", "vary", "checkpoint_every"), "it decides nothing of a run"),
}
_SHORT = {long: short for short, long in experiments.SHORT_KEYS.items() if short != "learning_rate"}


class Axis(NamedTuple):
    """One thing that varies.

    Attributes:
        key: of the experiment file, short where there is a short one (lr, batch_size, momentum); or keep or every.
        values: in the order given, no two alike.
        log: whether they were given as equal ratios.
    """

    key: str
    values: tuple[Any, ...]
    log: bool = False

    @property
    def path(self) -> tuple[str, ...]:
        """The names of the tables on the way to the key, and its own."""
        return tuple(experiments.SHORT_KEYS.get(self.key, self.key).split("."))


class Grid(NamedTuple):
    """All that decides the runs of a sweep, in plain data: it goes to other processes as it is.

    Attributes:
        experiment: the checked experiment in plain values, without what varies.
        folder: of its file, where a user's task is looked for first.
        engine: what trains.
        axes: what varies.
        modes: the words that name them; none where keep or every vary, which make the mode then.
        seeds: of the runs.
        compiled: whether the step is compiled, which is found when a sweep begins and stands in its record.
    """

    experiment: dict[str, Any]
    folder: str | None
    engine: str
    axes: tuple[Axis, ...]
    modes: tuple[str, ...]
    seeds: tuple[int, ...]
    compiled: bool = False

    @property
    def runs(self) -> int:
        """How many runs there are."""
        return math.prod(len(axis.values) for axis in self.axes) * max(1, len(self.modes)) * len(self.seeds)

    def run(self, number: int) -> Run:
        """Return the run of that number."""
        return run_of(number, {axis.key: axis.values for axis in self.axes}, self.modes, self.seeds)

    def experiment_at(self, values: Sequence[Any], flag: str = "") -> Experiment:
        """Return the experiment at a point, its modes those of the point.

        Raises:
            GradlabError: it does not hold; the message names `flag`.
        """
        changed: dict[tuple[str, ...], Any] = {
            axis.path: value for axis, value in zip(self.axes, values, strict=True) if axis.key not in RULE_KEYS
        }
        changed["modes",] = list(self.modes) or [self._mode(values)]
        return experiments.from_plain(self.experiment, Path(self.folder) if self.folder else None, changed, flag)

    def points(self) -> Iterator[tuple[Any, ...]]:
        """Yield the points of the grid, each as the values of the axes."""
        return product(*(axis.values for axis in self.axes))

    def points_of_training(self) -> Iterator[tuple[Any, ...]]:
        """Yield the points that differ in more than keep: that trains anywhere, unless it sets the lr."""
        one = not self.experiment["match_lr"]
        return product(*(axis.values[:1] if axis.key == "keep" and one else axis.values for axis in self.axes))

    def part(self, numbers: Sequence[int]) -> tuple[Grid, list[int]]:
        """Return the grid of what these runs need alone, however large this one is, and their numbers in it."""
        sizes = [*(len(axis.values) for axis in self.axes), max(1, len(self.modes)), len(self.seeds)]
        places = [_places(number, sizes) for number in numbers]
        kept = [sorted(set(column)) for column in zip(*places, strict=True)]
        axes = [
            axis._replace(values=tuple(axis.values[nth] for nth in those))
            for axis, those in zip(self.axes, kept, strict=False)
        ]
        seeds = tuple(self.seeds[nth] for nth in kept[-1])
        part = self._replace(
            experiment=self.experiment | {"seeds": list(seeds)},
            axes=tuple(axes),
            modes=tuple(self.modes[nth] for nth in kept[-2]) if self.modes else (),
            seeds=seeds,
        )
        at = [{nth: new for new, nth in enumerate(those)} for those in kept]
        found = []
        for place in places:
            number = 0
            for nth, each in zip(place, at, strict=True):
                number = number * len(each) + each[nth]
            found.append(number)
        return part, found

    def _mode(self, values: Sequence[Any]) -> str:
        """Return the word of the mode at a point, where keep or every vary."""
        return run_of(0, {axis.key: [value] for axis, value in zip(self.axes, values, strict=True)}, (), [0]).mode


def grid_of(
    experiment: Experiment, flags: Iterable[str] = (), *, engine: str | None = None, modes_by: str = ""
) -> Grid:
    """Return the grid of an experiment: what its file varies, and what the command line does, `KEY=RANGE` each.

    Args:
        experiment: a checked one.
        flags: as after --vary; one takes the place of the file's axis of the same key.
        engine: what trains; None for the experiment's own, or the one that trains most runs a second.
        modes_by: the flag by which the command line chooses modes, which must not vary then.

    Raises:
        GradlabError: nothing varies, or an axis or a value does not hold.
    """
    axes, subjects = _axes_of(experiment, flags)
    if not axes:
        raise ExperimentError(
            "nothing varies: a sweep needs --vary KEY=RANGE, such as --vary lr=1e-3:4:33:log, or [vary] in its file"
        )
    ruled = [key for key in RULE_KEYS if key in axes]
    if ruled and modes_by:
        raise ExperimentError(
            f"{subjects[ruled[0]]} makes the modes itself: leave {modes_by} out, or {ruled[0]}; "
            "keep and every may have a single value each, such as --vary every=4"
        )
    if engine is None and "engine" in experiment.model_fields_set:
        engine = experiment.engine
    engine = engine or DEFAULT_ENGINE
    if engine not in ENGINES:
        raise ExperimentError(unknown("engine of a sweep:", engine, ENGINES))
    folder = experiment.folder
    words = () if ruled else tuple(experiment.modes)
    grid = Grid(
        experiments.to_plain(experiment), str(folder.absolute()) if folder else None, engine,
        tuple(axes.values()), words, tuple(experiment.seeds),
    )  # fmt: skip
    _check(grid, subjects)
    return grid


def _axes_of(experiment: Experiment, flags: Iterable[str]) -> tuple[dict[str, Axis], dict[str, str]]:
    """Return the axes by key, and how a message names each: by its flag, or by its place in the file.

    Raises:
        GradlabError: axes do not hold: all that is wrong.
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


def _check(grid: Grid, subjects: Mapping[str, str]) -> None:
    """Raise a GradlabError where there are too many runs, or where a value or a point does not hold."""
    if grid.runs > MOST_RUNS:
        raise ExperimentError(f"{grid.runs:,} runs are too many for one sweep; at most {MOST_RUNS:,}")
    faults: list[GradlabError] = []
    for axis in grid.axes:
        alone = grid._replace(axes=(axis,))
        try:
            for value in axis.values:
                with _Naming(subjects[axis.key]):
                    check_rule(axis.key, value)
                    alone.experiment_at((value,), subjects[axis.key])
        except GradlabError as error:
            faults.append(error)  # the first of the axis
    raise_together(faults, ExperimentError)
    if len(grid.axes) > 1:
        together = " and ".join(subjects.values())
        for values in grid.points_of_training():
            with _Naming(together):
                grid.experiment_at(values, together)


def _places(number: int, sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the digits of a number in a system of these sizes, the last counting fastest."""
    digits = []
    for size in reversed(sizes):
        number, digit = divmod(number, size)
        digits.append(digit)
    return tuple(reversed(digits))


class _Naming:
    """Puts the subject before the message of an error that does not name it."""

    def __init__(self, subject: str) -> None:
        self.subject = subject

    def __enter__(self) -> None:
        """Nothing is to be done before."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, GradlabError) and not str(error).startswith(self.subject):
            raise type(error)(f"{self.subject}: {error}") from None


def _flat(vary: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, object]]:
    """Yield the keys of `[vary]`, dotted, with what they give."""
    for key, value in vary.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield before + key, value


def _axis_of_flag(text: str) -> Axis:
    """Return the axis that `--vary KEY=RANGE` names."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ExperimentError(f"--vary {shortened(text)}: write --vary KEY=RANGE, such as --vary lr=1e-3:4:33:log")
    return _axis(key, value, f"--vary {shortened(key)}")


def _axis(key: str, given: object, subject: str) -> Axis:
    """Return the axis of a key, from a list of values or a text."""
    plain = key.strip().replace("-", "_")
    plain = _SHORT.get(experiments.SHORT_KEYS.get(plain, plain), plain)
    if plain in _NO_AXIS:
        raise ExperimentError(f"{subject}: {plain} is no axis; {_NO_AXIS[plain]}")
    if not all(plain.split(".")):
        raise ExperimentError(f"{subject}: {shortened(key)} is no key of an experiment")
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
        raise ExperimentError(f"{subject} has no value; write {_FORM}")
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
    """Return the values that a text names, and whether they are equal ratios."""
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
    """Return a value of TOML, or what needs no quotes where it is a string."""
    try:
        return tomllib.loads(f"value={text}")["value"]
    except ValueError:
        return text


def _ranged(text: str, subject: str) -> tuple[list[Any], bool]:
    """Return the values from LOW to HIGH, both exact, in equal steps or equal ratios."""
    low, high, *more = (part.strip() for part in text.split(":"))
    counted = more[0] if more else ""
    log = more[1:] == ["log"]
    wrong = f"{subject}={shortened(text)}" if subject.startswith("--") else f"{subject} = {shortened(text)}"
    if not _NUMBER.fullmatch(low) or not _NUMBER.fullmatch(high) or not counted.isdecimal() or more[1:] not in (
        [], ["log"]
    ):  # fmt: skip
        raise ExperimentError(f"{wrong} is not {_FORM}")
    if len(counted) > 9 or not 2 <= (count := int(counted)) <= MOST_RUNS:
        raise ExperimentError(f"{wrong}: COUNT must be from 2 to {MOST_RUNS:,}")
    if not math.isfinite(float(low)) or not math.isfinite(float(high)) or not float(low) < float(high):
        raise ExperimentError(f"{wrong}: LOW must be less than HIGH, and both finite")
    if log and float(low) <= 0:
        raise ExperimentError(f"{wrong}: equal ratios need LOW greater than 0")
    values = _equal_ratios(float(low), float(high), count) if log else _equal_steps(low, high, count)
    whole = re.fullmatch(r"[+-]?\d+", low) and re.fullmatch(r"[+-]?\d+", high)
    if whole and all(value.is_integer() for value in values):
        values = [int(value) for value in values]
    if len(set(values)) < count:
        raise ExperimentError(f"{wrong}: there are no {count} different numbers")
    return values, log


def _equal_steps(low: str, high: str, count: int) -> list[Any]:
    """Return equal steps, each the float nearest to the exact number: 0.03125, and 0.3 where floats add up to more."""
    begin, end = Fraction(low), Fraction(high)
    return [float(begin + (end - begin) * nth / (count - 1)) for nth in range(count)]


def _equal_ratios(low: float, high: float, count: int) -> list[Any]:
    """Return equal ratios, written in twelve digits; the ends are exact."""
    ratio = math.log(high) - math.log(low)
    inner = [float(f"{low * math.exp(ratio * nth / (count - 1)):.12g}") for nth in range(1, count - 1)]
    return [low, *inner, high]
