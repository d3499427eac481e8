"""Reading: from a TOML file or a name to an experiment, with overrides from the command line."""

from __future__ import annotations

import json
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import modes, tasks
from gradlab.errors import ExperimentError, GradlabError, shortened, unknown
from gradlab.experiment.checking import RULE_KEYS, SHORT_KEYS, Faults, check_rule, validate
from gradlab.experiment.toml_text import MAX_SIZE, TOO_LARGE, line_of, why_too_large
from gradlab.shipped import folder as shipped_folder
from gradlab.user_code import is_function_name
from gradlab.wording import either

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gradlab.experiment.model import Experiment

DEFAULT_EXPERIMENT = "diverging_loss"


class Override(NamedTuple):
    """A value from the command line that replaces the file's: its key, the value and the flag."""

    key: tuple[str, ...]
    value: object
    flag: str

    @classmethod
    def parse(cls, text: str) -> Override:
        """Return the override of `--set KEY=VALUE`: a line of TOML, except that strings need no quotes.

        KEY can be one of `SHORT_KEYS`. `overrides_of` handles keep and every.
        """
        if wrong := why_too_large(text):
            raise ExperimentError(f"--set {shortened(text)} {wrong} for an experiment")
        name, equals, value = text.partition("=")
        for line in (text, f"{name}={json.dumps(value, ensure_ascii=False)}") if equals else ():
            try:
                found: Any = tomllib.loads(line)
            except (ValueError, RecursionError):
                continue
            key: tuple[str, ...] = ()
            while isinstance(found, dict) and len(found) == 1:
                ((part, found),) = found.items()
                key = (*key, part)
            if not key:
                break
            flag = f"--set {shortened('.'.join(key))}"
            short = key[0].replace("-", "_")
            if len(key) == 1 and short in SHORT_KEYS:
                key = tuple(SHORT_KEYS[short].split("."))
            return cls(key, found, flag)
        wrong = f"--set {shortened(text)}" if equals else f"--set {shortened(text)} has no '='"
        raise ExperimentError(f"{wrong}: write --set KEY=VALUE, such as --set optimizer.momentum=0.9")


def overrides_of(texts: Iterable[str], others: Iterable[Override] = ()) -> list[Override]:
    """Return `others` and the override of each `--set KEY=VALUE`; keep and every together make one mode.

    Raises:
        ExperimentError: a text is malformed, keep or every is invalid, or `others` already set the modes.
    """
    found = [*others, *map(Override.parse, texts)]
    rule = {each.key[0]: each for each in found if len(each.key) == 1 and each.key[0] in RULE_KEYS}
    if not rule:
        return found
    flag = " and ".join(each.flag for each in rule.values())
    try:
        for key, each in rule.items():
            check_rule(key, each.value)
        values: dict[str, Any] = {key: each.value for key, each in rule.items()}
        mode = modes.rule(**values).name
    except (GradlabError, OverflowError) as error:
        raise ExperimentError(f"{flag}: {error}") from None
    if chosen := next((each.flag for each in found if each.key == ("modes",)), None):
        verb = "sets" if len(rule) == 1 else "set"
        raise ExperimentError(f"{flag} {verb} the mode, so {chosen} cannot be used. Remove one.")
    others = [each for each in found if len(each.key) > 1 or each.key[0] not in RULE_KEYS]
    return [*others, Override(("modes",), [mode], flag)]


def shipped() -> dict[str, Path]:
    """Return the shipped experiments as {name: file}."""
    return {file.stem: file for file in sorted(shipped_folder().glob("*.toml"))}


def load(name: str, overrides: list[Override] | None = None, command: str = "run") -> Experiment:
    """Return the experiment in the TOML file `name`, or the shipped experiment `name`.

    Args:
        name: the file or the experiment.
        overrides: values from the command line.
        command: the gradlab command: a message suggests it for the name of a task, and the axes of a sweep may set
            what the file lacks.

    Raises:
        ExperimentError: the experiment does not exist, is not TOML, or has mistakes.
    """
    file = locate(name, command)
    text = read_text(file)
    try:
        values = tomllib.loads(text)
    except ValueError as error:
        raise ExperimentError(f"{file} is not TOML: {shortened(error, 200)}") from None
    partial = command == "sweep" or bool(values.get("vary"))
    return _validate({"name": file.stem, **values}, overrides or [], file.parent, file, text, partial=partial)


def location_of(experiment: Experiment, *key: str) -> str:
    """Return the location of a key in the experiment's file, such as `mine.toml:7: `, or "" without a file."""
    return "" if experiment.file is None else f"{experiment.file}:{line_of(read_text(experiment.file), key)}: "


def to_plain(experiment: Experiment) -> dict[str, Any]:
    """Return an experiment as plain values for `from_plain`, without expect and vary."""
    return experiment.model_dump(mode="json", exclude={"vary", "expect"})


def from_plain(
    values: dict[str, Any],
    folder: Path | None,
    changed: Mapping[tuple[str, ...], object],
    flag: str = "",
    *,
    partial: bool = False,
) -> Experiment:
    """Return the experiment of these values with some changed; it is checked like a file.

    Args:
        values: the result of `to_plain`.
        folder: the folder of the experiment's file.
        changed: new values by path of the key, such as ("optimizer", "lr").
        flag: the flag to name in messages, such as `--vary lr`.
        partial: whether required options may be missing.

    Raises:
        GradlabError: a value is invalid.
    """
    return _validate(values, [Override(key, each, flag) for key, each in changed.items()], folder, partial=partial)


def from_task(task: str, overrides: list[Override] | None = None, command: str = "run") -> Experiment:
    """Return an experiment named after the task: SGD with lr 0.01, 10 epochs, seed 42."""
    name = tasks.find(task).function
    chosen = [Override(("task",), task, either("--task", "task")), *(overrides or [])]
    return _validate({"name": name}, chosen, partial=command == "sweep")


def locate(name: str, command: str = "run") -> Path:
    """Return the file of the experiment `name`: a TOML file or a shipped experiment.

    Raises:
        ExperimentError: it does not exist; for the name of a task, the message shows how to pass it to `command`.
    """
    known = shipped()
    by_plain_name = {each.replace("-", "_").lower(): each for each in known}
    file = Path(name)
    key = name.replace("-", "_").lower()
    asked = either(f"gradlab {command} --task {shortened(name)}", f"task={shortened(name)}")
    if file.suffix == ".py":
        raise ExperimentError(f"'{shortened(name)}' is not an experiment. To run a task in it: {asked}:FUNCTION")
    if file.suffix != ".toml" and (is_function_name(name) or (key in tasks.BUILT_IN and key not in by_plain_name)):
        raise ExperimentError(f"'{shortened(name)}' is a task, not an experiment. To run it: {asked}")
    if file.suffix == ".toml" or len(file.parts) != 1:
        if not file.is_file():
            what = f"'{shortened(name)}' is a folder" if file.is_dir() else f"No file '{shortened(name)}'"
            what = what if name else "The name of the experiment is empty"
            raise ExperimentError(f"{what}. Shipped experiments: {', '.join(known)}")
        return file
    if key not in by_plain_name:
        raise ExperimentError(unknown("experiment", name, known))
    return known[by_plain_name[key]]


def read_text(file: Path) -> str:
    """Return the text of an experiment's file with line feeds as line ends.

    Raises:
        ExperimentError: it cannot be read, is not UTF-8, is too large, or is nested too deeply.
    """
    try:
        with file.open("rb") as handle:
            content = handle.read(MAX_SIZE + 1)
        if len(content) > MAX_SIZE:
            raise ExperimentError(f"{file} {TOO_LARGE} for an experiment")
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise ExperimentError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ExperimentError(
            f"{file} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#x}"
        ) from None
    if wrong := why_too_large(text):
        raise ExperimentError(f"{file} {wrong} for an experiment")
    return text


def _validate(
    values: dict[str, Any],
    overrides: list[Override],
    folder: Path | None = None,
    file: Path | None = None,
    text: str = "",
    *,
    partial: bool = False,
) -> Experiment:
    flags = {override.key: override.flag for override in overrides}
    if not _title_holds(values, overrides):
        values = {**values, "title": ""}
    return validate(_overridden(values, overrides), Faults(file, text, flags, partial=partial), folder, file)


def _title_holds(values: dict[str, Any], overrides: Iterable[Override]) -> bool:
    """Return whether the title of these values still describes them after the overrides.

    It does if no mode of the file is left out, and task and optimizer are the file's with all their options.
    """
    for each in overrides:
        if each.key == ("modes",) and isinstance(each.value, list):
            stated = values.get("modes", modes.DEFAULT)
            if isinstance(stated, list | tuple) and set(map(_mode_name, stated)) - set(map(_mode_name, each.value)):
                return False
        elif each.key[0] in _DESCRIBED:
            stated = values
            for part in each.key:
                stated = stated.get(part) if isinstance(stated, dict) else None
            if _plain(stated) != _plain(each.value):
                return False
    return True


def _mode_name(word: object) -> str:
    """Return the name of a mode; a wrong word, and a function, which is not imported here, as it is."""
    if isinstance(word, str) and not is_function_name(word):
        with suppress(GradlabError):
            return modes.parse(word).name
    return str(word)


def _plain(value: object) -> str:
    """Return a value in one spelling."""
    return value.replace("-", "_").lower() if isinstance(value, str) else repr(value)


def _overridden(values: dict[str, Any], overrides: list[Override]) -> dict[str, Any]:
    values = dict(values)
    for override in sorted(overrides, key=lambda each: each.key not in _RESETS):
        *path, last = override.key
        section = values
        for part in path:
            inner = section.get(part, {})
            if part == "schedule" and not isinstance(inner, dict):
                inner = {"name": inner} if isinstance(inner, str) else inner or {}
            if not isinstance(inner, dict):
                raise ExperimentError(f"{override.flag}: {part} is not a table")
            section[part] = dict(inner)
            section = section[part]
        section[last] = override.value
        if override.key in _RESETS:  # the old task's or optimizer's options would not fit
            values |= _RESETS[override.key](values)
        if override.key in _EXCLUSIVE and _EXCLUSIVE[override.key] not in {each.key for each in overrides}:
            values.pop(_EXCLUSIVE[override.key][0], None)
    return values


_RESETS: dict[tuple[str, ...], Callable[[dict[str, Any]], dict[str, Any]]] = {
    ("task",): lambda _: {"task_options": {}},
    ("schedule",): lambda _: {},  # before the keys of its table
    ("schedule", "name"): lambda values: {"schedule": {"name": values["schedule"]["name"]}},
    ("optimizer", "name"): lambda values: {
        "optimizer": {key: value for key, value in values["optimizer"].items() if key in ("name", "lr")}
    },
}
_DESCRIBED = {"task", "task_options", "optimizer", "clip_norm", "schedule", "match_lr"}  # by a title
_EXCLUSIVE: dict[tuple[str, ...], tuple[str]] = {("epochs",): ("steps",), ("steps",): ("epochs",)}
