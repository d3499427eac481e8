"""From the values of an experiment to the experiment: every mistake is found, and reported in the order of lines."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ValidationError

from gradlab import modes, optimizers, tasks
from gradlab.errors import ExperimentError, GradlabError, OptimizerError, nearest, shortened
from gradlab.experiment.model import Expected, Experiment, OptimizerSettings
from gradlab.experiment.toml_text import line_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gradlab.modes import Mode

    Key = tuple[str, ...]

LONGEST_NAME = 200  # bytes: file systems take 255, and pictures and copies add to it
MOST_RUNS = 100_000  # of one experiment: a folder each, and all are planned before the first is trained
MOST_FAULTS = 10  # in one message
ELSEWHERE = {
    "batch_size": "task_options.batch_size",
    "learning_rate": "optimizer.lr",
    "lr": "optimizer.lr",
    "momentum": "optimizer.momentum",
}
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{nth}" for port in ("COM", "LPT") for nth in "0123456789¹²³")}
RULE = ("keep", "every")  # of the rule itself: a sweep varies them, and --set makes them the one mode


def checked(values: dict[str, Any], faults: Faults, folder: Path | None, file: Path | None) -> Experiment:
    """Return the experiment of these values, every name in its canonical spelling.

    Raises:
        GradlabError: something does not hold: all that is wrong, each with its line.
    """
    made = _typed(values, faults).found_in(folder, file)
    parsed = _check_runs(made, faults)
    optimizer = _check_optimizer(made, faults)
    if optimizer:
        _check_together(made, parsed, optimizer, faults)
    _check_task(made, faults)
    if made.epochs is not None and made.steps is not None:
        faults.add(("steps",), ExperimentError("give epochs or steps, not both"))
    expect = _check_expected(made, parsed, faults)
    _check_varied(made.vary, faults)
    faults.raise_if_any()
    updates: dict[str, Any] = {
        "modes": [word if mode.own else mode.name for word, mode in zip(made.modes, parsed, strict=True)],
        "optimizer": made.optimizer.model_copy(update={"name": optimizer}),
        "epochs": 10 if made.epochs is None and made.steps is None else made.epochs,
        "expect": expect,
    }
    return made.model_copy(update=updates)


class _Fault(NamedTuple):
    key: Key
    line: int | None  # None where the command line gave it, or there is no file
    error: GradlabError


class Faults:
    """What is wrong with an experiment, and in which line of its file."""

    def __init__(self, file: Path | None, text: str, flags: Mapping[Key, str]) -> None:
        """Take the file and its text, and by which flag each key of the command line came."""
        self.file, self.text, self.flags = file, text, flags
        self.found: list[_Fault] = []
        self.meant: set[Key] = set()  # keys that misspelt ones stand for: nothing is known of them

    def add(self, key: Key, error: GradlabError) -> None:
        """Note a fault of a key.

        Raises:
            ExperimentError: there are more than a message takes.
        """
        given = self.file is None or any(flag[: len(key)] == key[: len(flag)] for flag in self.flags)
        if len(self.found) == MOST_FAULTS:
            raise ExperimentError(f"{self._report()}\nThese are the first {MOST_FAULTS} mistakes.")
        self.found.append(_Fault(key, None if given else line_of(self.text, key), error))

    def at(self, *key: str) -> _At:
        """Return a context that notes what is raised in it as a fault of the key, and ends there."""
        return _At(self, key)

    def concern(self, *key: str) -> bool:
        """Say whether nothing more can be said of a key: it, or one within it, has a fault or is misspelt."""
        return any(each[: len(key)] == key for each in [*self.meant, *(fault.key for fault in self.found)])

    def raise_if_any(self) -> None:
        """Raise a GradlabError that reports all faults, if there are any."""
        if len(self.found) == 1 and self.found[0].line is None:
            raise self.found[0].error
        if self.found:
            raise ExperimentError(self._report())

    def _report(self) -> str:
        """Return all faults, by line, then those of the command line; what is known is listed once."""
        at_end = len(self.text) + 2
        ordered = sorted(self.found, key=lambda each: at_end if each.line is None else each.line)
        lines, listed = [], set()
        for fault in ordered:
            place = "" if fault.line is None else f"{self.file}:{fault.line}: "
            wrong, _, known = str(fault.error).partition(" Known: ")
            lines.append(place + (wrong if known in listed else str(fault.error)))
            listed |= {known} - {""}
        return "\n".join(lines)


class _At(NamedTuple):
    faults: Faults
    key: Key

    def __enter__(self) -> None:
        """Nothing is to be done before."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, GradlabError):
            self.faults.add(self.key, error)
        return isinstance(error, GradlabError)


# Types and keys


def _typed(values: dict[str, Any], faults: Faults) -> Experiment:
    """Return the experiment of the values that have their type; what has not is noted and left at its default."""
    while True:
        try:
            return Experiment.model_validate(values)
        except ValidationError as error:
            found: dict[Key, Any] = {}
            for fault in error.errors(include_url=False):
                found.setdefault(_key_of(fault, values), fault)  # of a value of several types, the first one tried
        for key, fault in islice(found.items(), MOST_FAULTS + 1):
            if fault["type"] == "extra_forbidden" and (near := _near(key)):
                faults.meant.add(near)
        for key, fault in found.items():
            if fault["type"] != "missing" or key not in faults.meant:
                faults.add(key, ExperimentError(_explained(key, fault, faults)))
            values = _without(values, key)
        values = {"task": next(iter(tasks.BUILT_IN)), "name": "unnamed"} | values  # what has no default


def _key_of(fault: Any, values: object) -> Key:
    """Return where in the values a fault is; pydantic's place also names list items and the types that it tried."""
    key: Key = ()
    for part in fault["loc"]:
        if not isinstance(values, dict) or part not in values:
            return (*key, part) if fault["type"] == "missing" else key
        key, values = (*key, part), values[part]
    return key


def _without(values: dict[str, Any], key: Key) -> dict[str, Any]:
    """Return the values without the key, or without as much of its way as is a table."""
    first, *rest = key
    inner = values.get(first)
    if rest and isinstance(inner, dict):
        return values | {first: _without(inner, tuple(rest))}
    return {name: value for name, value in values.items() if name != first}


def _explained(key: Key, fault: Any, faults: Faults) -> str:
    """Say what is wrong with the key, and what would work."""
    flag = next((flag for path, flag in faults.flags.items() if path == key[: len(path)]), None)
    name = ".".join(key)
    subject = flag if flag and not flag.startswith("--set") else name
    if fault["type"] == "extra_forbidden":
        return _unknown_key(key)
    if fault["type"] == "missing":
        return f"{name} is missing"
    wrong = fault["msg"].replace("Input should be", "must be").replace("a valid ", "a ")
    wrong = _IN_TOML.get(fault["type"], wrong)
    if key == ("device",):
        wrong = "must be like cpu, cuda or cuda:1"
    if any(isinstance(part, str) for part in fault["loc"][len(key) :]):  # one of the types that it tried
        wrong = "must be a number, a string, true, false or a list of these"
    theirs = key == ("name",) and not flag and (faults.file is None or fault["input"] == faults.file.stem)
    hint = "\nthat is what its file or function is called; give it another: name = …" if theirs else ""
    return f"{subject} {wrong}, got {shortened(_shown(fault['input']))}{hint}"


_IN_TOML = {
    "dict_type": "must be a table",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "list_type": "must be a list",
    "model_type": "must be a table",
    "string_pattern_mismatch": "must be letters, digits, spaces and _ . + = - only, and start with a letter or digit, "
    "and not end with a space or dot",
    "string_too_long": "must be shorter",
    "too_short": "must have at least one entry",
}


def _known(key: Key) -> list[str]:
    """Return the keys of the table in which this one stands."""
    sections: dict[str, type[BaseModel]] = {"optimizer": OptimizerSettings, "expect": Expected}
    return list((sections.get(key[0], Experiment) if len(key) > 1 else Experiment).model_fields)


def _near(key: Key) -> Key | None:
    """Return the key that an unknown one may stand for."""
    *path, last = key
    near = nearest(last, [*_known(key), *(() if path else ELSEWHERE)])
    if path or near not in ELSEWHERE:
        return (*path, near) if near else None
    return tuple(ELSEWHERE[near].split("."))


def _unknown_key(key: Key) -> str:
    *path, last = key
    near = _near(key)
    guess = f"; did you mean '{'.'.join(near[len(path) :])}'?" if near else "."
    prefix = ".".join(path) + "." if path else ""
    return f"unknown key '{prefix}{shortened(last)}'{guess} Known: {', '.join(_known(key))}"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return repr(value)
    except ValueError:  # Python writes no integer of more than 4300 digits
        return "a number of more digits than can be shown"


# What needs more than types


def _check_runs(made: Experiment, faults: Faults) -> list[Mode]:
    """Check the name, the modes and the seeds; return the modes."""
    parsed: list[Mode] = []
    with faults.at("seeds"):
        _no_more_runs_than_a_folder_holds(len(made.modes), len(made.seeds))
    with faults.at("name"):
        _name_of_a_folder(made.name)
    for word in made.modes:
        with faults.at("modes"):
            parsed.append(modes.parse(word, made.folder))
    with faults.at("modes"):
        _check_files(parsed)
        _no_doubles("mode", [mode.name for mode in parsed])
    with faults.at("seeds"):
        _no_doubles("seed", made.seeds)
    return parsed


def _check_optimizer(made: Experiment, faults: Faults) -> str | None:
    """Check the optimizer and its options; return its name, or None where that is not known."""
    name: str | None = None
    with faults.at("optimizer", "name"):
        name = optimizers.find(made.optimizer.name)
    if name is None or faults.concern("optimizer", "name"):
        return None
    wrong: dict[str, GradlabError] = {}
    for option, value in made.optimizer.options.items():
        try:
            optimizers.check_options(name, {option: value})
        except OptimizerError as error:
            wrong[option] = error
    misspelt = next((option for option in wrong if nearest(option, ["name"])), None)
    if misspelt:  # which optimizer has these options is not known
        name, wrong = None, {misspelt: ExperimentError(f"unknown key 'optimizer.{misspelt}'; did you mean 'name'?")}
    for option, fault in wrong.items():
        faults.add(("optimizer", option), fault)
    return name


def _check_together(made: Experiment, parsed: list[Mode], optimizer: str, faults: Faults) -> None:
    """Check what goes with the optimizer and the modes: match_lr, schedule and engine."""
    with faults.at("match_lr"):
        if made.match_lr:
            _check_matched(optimizer, parsed)
    with faults.at("schedule"):
        if made.schedule is not None and optimizer == optimizers.VANILLA:
            raise OptimizerError(f"schedule '{made.schedule}' needs an optimizer of torch.optim, such as sgd")
    if made.engine == "tensorflow":
        _check_plain(made, parsed, optimizer, faults)


def _check_plain(made: Experiment, parsed: list[Mode], optimizer: str, faults: Faults) -> None:
    """Refuse what engine tensorflow does not do: all but plain gradient descent on the CPU."""
    able = "engine 'tensorflow' does plain gradient descent on the CPU: SGD or vanilla, with lr alone"
    if optimizer not in ("SGD", optimizers.VANILLA):
        faults.add(("optimizer", "name"), OptimizerError(f"{able}, not {optimizer}"))
    for option in made.optimizer.options.keys() - {"lr"}:
        faults.add(("optimizer", option), OptimizerError(f"{able}, without {option}"))
    if own := next((mode for mode in parsed if mode.own), None):
        wrong = f"{able}, and the rule of keep and every, not mode '{own.name}' of your own"
        faults.add(("modes",), ExperimentError(wrong))
    usual = {"clip_norm": None, "schedule": None, "device": "cpu"}
    for key, value in usual.items():
        if getattr(made, key) != value:
            faults.add((key,), ExperimentError(f"{able}, without {key} = {getattr(made, key)}"))


def _check_task(made: Experiment, faults: Faults) -> None:
    if faults.concern("task"):
        return
    task = None
    with faults.at("task"):
        task = tasks.find(made.task, made.folder)
    # A user's own task is imported for this, so it waits until there is something to train.
    if task and task.name in tasks.BUILT_IN:
        for option, wrong in tasks.faults_of_options(task, made.task_options):
            faults.add(("task_options", option), wrong)


def _check_expected(made: Experiment, parsed: list[Mode], faults: Faults) -> dict[str, Expected]:
    """Check of which modes something is expected; return that by their canonical names."""
    expect: dict[str, Expected] = {}
    words = {mode.name for mode in parsed}
    any_mode = ("modes",) in faults.flags or faults.concern("modes")
    for word, expected in made.expect.items():
        with faults.at("expect", word):
            name = modes.parse(word, made.folder).name
            if name in expect:
                raise ExperimentError(f"mode '{name}' is given twice")
            if name not in words and not any_mode:
                raise ExperimentError(f"mode '{name}' is expected something of but is not in modes")
            expect[name] = expected
    return expect


def _check_varied(vary: dict[str, Any], faults: Faults) -> None:
    """Refuse unknown keys of [vary]; the sweep parses their values, and says which keys do not vary."""
    known = [*Experiment.model_fields, *ELSEWHERE, *RULE]
    for key in vary:
        name = key.strip().replace("-", "_").partition(".")[0]
        if name not in (*known, "mode", "seed"):
            near = nearest(name, known)
            guess = f"; did you mean '{near}'?" if near else ""
            wrong = f"unknown key 'vary.{shortened(key)}'{guess or '.'} Known: {', '.join(known)}"
            faults.add(("vary", key), ExperimentError(wrong))


def check_rule(key: str, value: object) -> None:
    """Raise ExperimentError where the value is none of keep or every, whichever the key is."""
    if key == "keep" and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ExperimentError(f"keep must be a number, got {shortened(repr(value))}{_hint_of(value)}")
    if key == "every" and (isinstance(value, bool) or not isinstance(value, int) or value >= 10**9):
        raise ExperimentError(f"every must be an integer, got {shortened(repr(value))}")


def _hint_of(value: object) -> str:
    """Return how TOML writes a number such as '.5'; "" of what is none."""
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return ""
    return f"; write {number}" if math.isfinite(number) else ""


def _no_doubles(kind: str, values: list[Any]) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise ExperimentError(f"{kind} '{value}' is given twice")
        seen.add(value)


def _no_more_runs_than_a_folder_holds(modes: int, seeds: int) -> None:
    if modes * seeds > MOST_RUNS:
        asked = f"{modes:,} modes × {seeds:,} seeds are {modes * seeds:,} runs"
        raise ExperimentError(f"{asked}, too many for one experiment; at most {MOST_RUNS:,}")


def _name_of_a_folder(name: str) -> None:
    """Refuse what some system takes for no folder's name: folders of runs are copied from one to another."""
    if (size := len(name.encode())) > LONGEST_NAME:
        raise ExperimentError(f"name '{shortened(name)}' must be shorter: it takes {size} bytes, above {LONGEST_NAME}")
    if name.partition(".")[0].rstrip().upper() in _DEVICES:
        raise ExperimentError(
            f"name '{name}' is that of a device on Windows, and no folder's; choose another: name = …"
        )


def _check_files(parsed: list[Mode]) -> None:
    """Raise ExperimentError for one function's name in two files of one name: a mode is known by these alone."""
    files: dict[str, Path] = {}
    for mode in parsed:
        if (file := mode.own.file if mode.own else None) and files.setdefault(mode.name, file) != file:
            raise ExperimentError(
                f"mode '{mode.name}' stands in two files of that name, {files[mode.name]} and {file}; rename one"
            )


def _check_matched(optimizer: str, parsed: list[Mode]) -> None:
    """Raise a GradlabError where no share of the lr gives each mode the same effective one."""
    if optimizer not in optimizers.LINEAR:
        raise ExperimentError(
            f"match_lr needs an optimizer whose step is lr × gradient, such as sgd: that of {optimizer} "
            "does not grow with what is kept in .grad"
        )
    for mode in parsed:
        modes.matched_lr_scale(mode)
