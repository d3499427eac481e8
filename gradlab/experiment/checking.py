"""Validation: from values to an experiment, or to all their mistakes in the order of lines."""

from __future__ import annotations

import math
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from gradlab import modes, optimizers, schedules, tasks
from gradlab.errors import ExperimentError, GradlabError, OptimizerError, nearest, raise_together, shortened
from gradlab.experiment.inequality import inequality_of
from gradlab.experiment.model import Expected, Experiment, OptimizerSettings, ScheduleSettings
from gradlab.experiment.toml_text import line_of
from gradlab.user_code import title_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from gradlab.modes import Mode
    from gradlab.optimizers import OptimizerName
    from gradlab.schedules import ScheduleName

    Key = tuple[str, ...]

Section = TypeVar("Section", OptimizerSettings, ScheduleSettings)

MAX_NAME_BYTES = 200  # file systems allow 255, and pictures and copies append to the name
MAX_RUNS = 100_000  # per experiment: each has a folder, and all are planned before the first is trained
MAX_FAULTS = 10  # per message
SHORT_KEYS = {  # short forms on the command line; users also write them in files by mistake
    "batch_size": "task_options.batch_size",
    "learning_rate": "optimizer.lr",
    "lr": "optimizer.lr",
    "momentum": "optimizer.momentum",
}
_DEVICES = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    *(f"{port}{nth}" for port in ("COM", "LPT") for nth in "0123456789¹²³"),
}
RULE_KEYS = ("keep", "every")  # parameters of the rule: a sweep varies them, and --set builds a mode from them


def validate(values: dict[str, Any], faults: Faults, folder: Path | None, file: Path | None) -> Experiment:
    """Return the experiment of these values, with all names in canonical spelling.

    Raises:
        GradlabError: there are mistakes; the message has all of them with their lines.
    """
    experiment = _parse_types(_with_lists(values), faults).located(folder, file)
    parsed = _check_runs(experiment, faults)
    optimizer = _check_optimizer(experiment, faults)
    schedule = _check_schedule(experiment, faults)
    if optimizer is not None:
        _check_combination(experiment, parsed, optimizer, faults)
    _check_task(experiment, faults)
    if experiment.epochs is not None and experiment.steps is not None:
        faults.add(("steps",), ExperimentError("give epochs or steps, not both"))
    expect = _check_expected(experiment, parsed, faults)
    _check_varied(experiment.vary, faults)
    faults.raise_if_any()
    updates: dict[str, Any] = {
        "modes": [word if mode.own else mode.name for word, mode in zip(experiment.modes, parsed, strict=True)],
        "optimizer": _canonical(experiment.optimizer, optimizer),
        "schedule": experiment.schedule and _canonical(experiment.schedule, schedule),
        "epochs": 10 if experiment.epochs is None and experiment.steps is None else experiment.epochs,
        "expect": expect,
    }
    return experiment.model_copy(update=updates).located(folder, file, parsed)


def _canonical(section: Section, name: object) -> Section:
    """Return the settings with this name in canonical spelling; the name of a user's own code stays as it is."""
    return section.model_copy(update={"name": name}) if isinstance(name, str) else section


class _Fault(NamedTuple):
    key: Key
    line: int | None  # None for a value of the command line, or without a file
    error: GradlabError


class Faults:
    """The mistakes of an experiment and their lines in its file."""

    def __init__(self, file: Path | None, text: str, flags: Mapping[Key, str], *, partial: bool = False) -> None:
        """Collect mistakes of this file.

        Args:
            file: the file.
            text: its text.
            flags: the flags of keys set on the command line.
            partial: whether the axes of a sweep may still set a missing option.
        """
        self.file, self.text, self.flags, self.partial = file, text, flags, partial
        self.found: list[_Fault] = []
        self.intended: set[Key] = set()  # correct keys of misspelt ones, whose values are unknown

    def add(self, key: Key, error: GradlabError) -> None:
        """Add a mistake of a key.

        Raises:
            ExperimentError: there are more mistakes than one message shows.
        """
        given = self.file is None or any(flag[: len(key)] == key[: len(flag)] for flag in self.flags)
        if len(self.found) == MAX_FAULTS:
            first = "\n".join(map(str, self._errors()))
            raise ExperimentError(f"{first}\nOnly the first {MAX_FAULTS} mistakes are shown.")
        self.found.append(_Fault(key, None if given else line_of(self.text, key), error))

    @contextmanager
    def collect(self, *key: str) -> Iterator[None]:
        """Turn a GradlabError raised in this context into a mistake of the key."""
        try:
            yield
        except GradlabError as error:
            self.add(key, error)

    def has_fault(self, *key: str) -> bool:
        """Return whether a key, or a key in its table, has a mistake or is misspelt."""
        return any(each[: len(key)] == key for each in [*self.intended, *(fault.key for fault in self.found)])

    def raise_if_any(self) -> None:
        """Raise a GradlabError with all mistakes, if any."""
        raise_together(self._errors(), ExperimentError)

    def _errors(self) -> list[GradlabError]:
        """Return the errors in line order, then those of the command line; list known names only once."""
        errors: list[GradlabError] = []
        listed = set()
        for fault in sorted(self.found, key=lambda each: math.inf if each.line is None else each.line):
            message, _, known = str(fault.error).partition(" Known: ")
            message = message if known in listed else str(fault.error)
            listed |= {known} - {""}
            if fault.line is None:
                errors.append(type(fault.error)(message))
            else:
                errors.append(ExperimentError(f"{self.file}:{fault.line}: {message}"))
        return errors


# Types and keys


def _parse_types(values: dict[str, Any], faults: Faults) -> Experiment:
    """Return the experiment of the values with valid types; report the others and use their defaults."""
    while True:
        try:
            return Experiment.model_validate(values)
        except ValidationError as error:
            found: dict[Key, Any] = {}
            for fault in error.errors(include_url=False):
                found.setdefault(_key_of(fault, values), fault)  # keep the first fault if several types were tried
        for key, fault in islice(found.items(), MAX_FAULTS + 1):
            if fault["type"] == "extra_forbidden" and (near := _nearest_key(key)):
                faults.intended.add(near)
        for key, fault in found.items():
            if fault["type"] != "missing" or key not in faults.intended:
                faults.add(key, ExperimentError(_explain(key, fault, faults)))
            values = _without(values, key)
        values = {"task": next(iter(tasks.BUILT_IN)), "name": "unnamed"} | values  # these have no default


def _with_lists(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with `seeds = N` as the seeds 0 to N-1, if N is a valid number, and `log = WORD` as a list."""
    seeds, log = values.get("seeds"), values.get("log")
    if type(seeds) is int and 1 <= seeds <= MAX_RUNS:
        values = values | {"seeds": list(range(seeds))}
    return values | {"log": [log]} if isinstance(log, str) else values


def _key_of(fault: Any, values: object) -> Key:
    """Return the key of a fault, without the list items and types that pydantic's location also names."""
    key: Key = ()
    for part in fault["loc"]:
        if not isinstance(values, dict) or part not in values:
            return (*key, part) if fault["type"] == "missing" else key
        key, values = (*key, part), values[part]
    return key


def _without(values: dict[str, Any], key: Key) -> dict[str, Any]:
    """Return the values without the key, or without the first part of its path that is not a table."""
    first, *rest = key
    inner = values.get(first)
    if rest and isinstance(inner, dict):
        return values | {first: _without(inner, tuple(rest))}
    return {name: value for name, value in values.items() if name != first}


def _explain(key: Key, fault: Any, faults: Faults) -> str:
    """Return the message for a fault: the problem and valid values."""
    flag = next((flag for path, flag in faults.flags.items() if path == key[: len(path)]), None)
    name = ".".join(key)
    subject = flag if flag and not flag.startswith("--set") else name
    if fault["type"] == "extra_forbidden":
        return _unknown_key(key)
    if fault["type"] == "missing":
        return f"{name} is missing"
    wrong = (
        fault["msg"].replace("Input should be", "must be").replace("String should", "must").replace("a valid ", "a ")
    )
    wrong = _MESSAGES.get(fault["type"], wrong)
    if key == ("seeds",) and fault["type"] == "list_type":
        wrong = f"must be a list, or the number of seeds from 1 to {MAX_RUNS:,}"
    if key == ("schedule",):
        wrong = "must be a name or a table"
    if key == ("device",):
        wrong = "must be like cpu, cuda or cuda:1"
    if any(isinstance(part, str) for part in fault["loc"][len(key) :]):  # one of the types that it tried
        wrong = "must be a number, a string, true, false or a list of these"
    by_file_name = key == ("name",) and not flag and (faults.file is None or fault["input"] == faults.file.stem)
    hint = "\nThe default name is that of the file or function. Set another: name = …" if by_file_name else ""
    return f"{subject} {wrong}, got {shortened(_value_text(fault['input']))}{hint}"


_MESSAGES = {
    "dict_type": "must be a table",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "list_type": "must be a list",
    "model_type": "must be a table",
    "string_pattern_mismatch": "must have only letters, digits, spaces and _ . + = -, start with a letter, digit or "
    "_, and not end with a space or dot",
    "too_short": "must have at least one entry",
}


def _known_keys(key: Key) -> list[str]:
    """Return the known keys of the table that contains this key."""
    sections: dict[str, type[BaseModel]] = {
        "optimizer": OptimizerSettings,
        "schedule": ScheduleSettings,
        "expect": Expected,
    }
    return list((sections.get(key[0], Experiment) if len(key) > 1 else Experiment).model_fields)


def _nearest_key(key: Key) -> Key | None:
    """Return the known key nearest to an unknown one, if any is near."""
    *path, last = key
    near = nearest(last, [*_known_keys(key), *(() if path else SHORT_KEYS)])
    if path or near not in SHORT_KEYS:
        return (*path, near) if near else None
    return tuple(SHORT_KEYS[near].split("."))


def _unknown_key(key: Key) -> str:
    *path, last = key
    near = _nearest_key(key)
    guess = f"; did you mean '{'.'.join(near[len(path) :])}'?" if near else "."
    prefix = ".".join(path) + "." if path else ""
    return f"unknown key '{prefix}{shortened(last)}'{guess} Known: {', '.join(_known_keys(key))}"


def _value_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return repr(value)
    except ValueError:  # Python prints no integer with more than 4300 digits
        return "a number with too many digits to show"


# Checks beyond types


def _check_runs(experiment: Experiment, faults: Faults) -> list[Mode]:
    """Check the name, the modes and the seeds; return the modes."""
    parsed: list[Mode] = []
    if (runs := len(experiment.modes) * len(experiment.seeds)) > MAX_RUNS:
        given = f"{len(experiment.modes):,} modes × {len(experiment.seeds):,} seeds are {runs:,} runs"
        faults.add(("seeds",), ExperimentError(f"{given}; an experiment can have at most {MAX_RUNS:,}"))
    with faults.collect("name"):
        _check_folder_name(experiment.name)
    for word in experiment.modes:
        with faults.collect("modes"):
            parsed.append(modes.parse(word, experiment.folder))
    with faults.collect("modes"):
        _check_files(parsed)
        _refuse_duplicates("mode", [mode.name for mode in parsed])
    with faults.collect("seeds"):
        _refuse_duplicates("seed", experiment.seeds)
    with faults.collect("log"):
        _refuse_duplicates("log", experiment.log)
    return parsed


def _check_optimizer(experiment: Experiment, faults: Faults) -> OptimizerName | None:
    """Check the optimizer and its options; return its name, or None if it is unknown."""
    settings = experiment.optimizer
    with faults.collect("optimizer", "name"):
        name = optimizers.find(settings.name, experiment.folder)
    if faults.has_fault("optimizer", "name"):
        return None
    wrong: dict[str, GradlabError] = {}
    with faults.collect("optimizer", "name"):
        wrong.update(optimizers.faults_of_options(name, settings.options))
    if faults.partial:
        wrong = {option: fault for option, fault in wrong.items() if option in ("name", *settings.options)}
    misspelt = next((option for option in wrong if option != "name" and nearest(option, ["name"])), None)
    if misspelt:  # the optimizer is unknown, so its options cannot be checked
        wrong = {misspelt: ExperimentError(f"unknown key 'optimizer.{misspelt}'; did you mean 'name'?")}
    for option, fault in wrong.items():
        faults.add(("optimizer", option), fault)
    return None if misspelt else name


def _check_schedule(experiment: Experiment, faults: Faults) -> ScheduleName | None:
    """Check the schedule and its options; return its name, or None if it is unknown or none is given."""
    settings, name = experiment.schedule, None
    if settings is None:
        return None
    if not settings.name:
        misspelt = next((option for option in settings.options if nearest(option, ["name"])), None)
        wrong = f"unknown key 'schedule.{misspelt}'; did you mean 'name'?" if misspelt else "schedule.name is missing"
        faults.add(("schedule", misspelt or "name"), ExperimentError(wrong))
        return None
    with faults.collect("schedule", "name"):
        name = schedules.find(settings.name, experiment.folder)
        for option, fault in schedules.faults_of_options(name, settings.options):
            if option in settings.options or not faults.partial:
                faults.add(("schedule", option), fault)
    if name in schedules.SHAPES and settings.every == "epoch":
        wrong = f"schedule '{settings.name}' steps after every update. Remove every."
        faults.add(("schedule", "every"), OptimizerError(wrong))
    return name


def _check_combination(experiment: Experiment, parsed: list[Mode], optimizer: OptimizerName, faults: Faults) -> None:
    """Check match_lr, schedule and engine, which depend on optimizer and modes."""
    with faults.collect("match_lr"):
        if experiment.match_lr:
            _check_matched(optimizer, parsed)
    if experiment.schedule is not None and optimizer == optimizers.VANILLA:
        wrong = f"schedule '{experiment.schedule.name}' needs an optimizer from torch.optim, such as sgd"
        faults.add(("schedule",), OptimizerError(wrong))
    if experiment.match_lr and experiment.schedule is not None:
        for option in schedules.ABSOLUTE:
            if experiment.schedule.options.get(option):
                wrong = f"match_lr scales only the optimizer's lr. Remove schedule.{option} or match_lr."
                faults.add(("schedule", option), ExperimentError(wrong))
    if experiment.engine == "tensorflow":
        _check_tensorflow(experiment, parsed, optimizer, faults)


def _check_tensorflow(experiment: Experiment, parsed: list[Mode], optimizer: OptimizerName, faults: Faults) -> None:
    """Refuse settings that engine tensorflow does not support: all but plain gradient descent on the CPU."""
    able = "engine 'tensorflow' supports only SGD and vanilla with lr, on the CPU"
    if optimizer not in ("SGD", optimizers.VANILLA):
        faults.add(("optimizer", "name"), OptimizerError(f"{able}; it does not support {title_of(optimizer)}"))
    for option in experiment.optimizer.options.keys() - {"lr"}:
        faults.add(("optimizer", option), OptimizerError(f"{able}; remove {option}"))
    if own := next((mode for mode in parsed if mode.own), None):
        wrong = f"engine 'tensorflow' supports only modes with keep and every, not your own mode '{own.name}'"
        faults.add(("modes",), ExperimentError(wrong))
    schedule = experiment.schedule and experiment.schedule.name
    others = {
        "clip_norm": experiment.clip_norm,
        "schedule": schedule,
        "log": experiment.log,
        "evaluate_every": experiment.evaluate_every,
        "device": experiment.device,
    }
    for key, value in others.items():
        if value not in (None, [], "cpu"):
            faults.add((key,), ExperimentError(f"{able}; remove {key} = {value}"))


def _check_task(experiment: Experiment, faults: Faults) -> None:
    if faults.has_fault("task"):
        return
    with faults.collect("task"):
        task = tasks.find(experiment.task, experiment.folder)
    # Checking a user's task would import it, so that waits until training.
    if not faults.has_fault("task") and task.name in tasks.BUILT_IN:
        for option, wrong in tasks.faults_of_options(task, experiment.task_options):
            faults.add(("task_options", option), wrong)


def _check_expected(experiment: Experiment, parsed: list[Mode], faults: Faults) -> dict[str, Expected]:
    """Check the modes of `[expect]`; return their expectations by canonical name."""
    expect: dict[str, Expected] = {}
    words = {mode.name for mode in parsed}
    modes_replaced = ("modes",) in faults.flags or faults.has_fault("modes")
    for word, expected in experiment.expect.items():
        with faults.collect("expect", word):
            name = modes.parse(word, experiment.folder).name
            if name in expect:
                raise ExperimentError(f"mode '{name}' is given twice")
            if name not in words and not modes_replaced:
                raise ExperimentError(f"mode '{name}' has expectations but is not in modes")
            expect[name] = expected
        for key, value in expected.measured.items():
            _check_measured((word, key), value, faults)
    return expect


def _check_measured(place: Key, value: object, faults: Faults) -> None:
    """Check an expectation of a value that the task measures; its name is known only when the task is built."""
    key = ("expect", *place)
    if inequality_of(value) is not None and key[-1].isidentifier():
        return
    if _nearest_key(key) or not key[-1].isidentifier():
        faults.add(key, ExperimentError(_unknown_key(key)))
    else:
        given = shortened(_value_text(value))
        faults.add(key, ExperimentError(f'{".".join(key)} must be a comparison, such as "> 0.9", got {given}'))


def _check_varied(vary: dict[str, Any], faults: Faults) -> None:
    """Refuse unknown keys in [vary]; the sweep checks their values and whether they can vary."""
    known = [*Experiment.model_fields, *SHORT_KEYS, *RULE_KEYS]
    for key in vary:
        name = key.strip().replace("-", "_").partition(".")[0]
        if name not in (*known, "mode", "seed"):
            near = nearest(name, known)
            guess = f"; did you mean '{near}'?" if near else ""
            wrong = f"unknown key 'vary.{shortened(key)}'{guess or '.'} Known: {', '.join(known)}"
            faults.add(("vary", key), ExperimentError(wrong))


def check_rule(key: str, value: object) -> None:
    """Raise ExperimentError if the value does not fit the key, keep or every."""
    if key == "keep" and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ExperimentError(f"keep must be a number, got {shortened(repr(value))}{_number_hint(value)}")
    if key == "every" and (isinstance(value, bool) or not isinstance(value, int) or value >= 10**9):
        raise ExperimentError(f"every must be an integer, got {shortened(repr(value))}")


def _number_hint(value: object) -> str:
    """Return a hint how TOML writes a number such as '.5'; "" for any other text."""
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return ""
    return f"; write {number}" if math.isfinite(number) else ""


def _refuse_duplicates(kind: str, values: list[Any]) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise ExperimentError(f"{kind} '{value}' is given twice")
        seen.add(value)


def _check_folder_name(name: str) -> None:
    """Refuse names that are invalid for a folder on any system, since run folders are copied between systems."""
    if (size := len(name.encode())) > MAX_NAME_BYTES:
        raise ExperimentError(
            f"name '{shortened(name)}' is too long: it has {size} bytes, the limit is {MAX_NAME_BYTES}"
        )
    if name.partition(".")[0].rstrip().upper() in _DEVICES:
        raise ExperimentError(
            f"name '{name}' is reserved on Windows, so no folder can have it. Choose another: name = …"
        )


def _check_files(parsed: list[Mode]) -> None:
    """Refuse two files with the same name and function name, because these identify a mode."""
    files: dict[str, Path] = {}
    for mode in parsed:
        if (file := mode.own.file if mode.own else None) and files.setdefault(mode.name, file) != file:
            raise ExperimentError(
                f"mode '{mode.name}' is in two files of the same name, {files[mode.name]} and {file}; rename one"
            )


def _check_matched(optimizer: OptimizerName, parsed: list[Mode]) -> None:
    """Raise a GradlabError if no lr gives every mode the same effective lr."""
    if optimizer not in optimizers.LINEAR:
        why = "is not proportional to .grad" if isinstance(optimizer, str) else "is not known to be that"
        raise ExperimentError(
            "match_lr needs an optimizer whose step is lr × gradient, such as sgd; "
            f"the step of {title_of(optimizer)} {why}"
        )
    for mode in parsed:
        modes.matched_lr_scale(mode)
