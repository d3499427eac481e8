"""Reading: from a TOML file or a name to an experiment, with the command line's values on top."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import modes, tasks
from gradlab.errors import ExperimentError, GradlabError, shortened, unknown
from gradlab.experiment.checking import RULE_KEYS, SHORT_KEYS, Faults, check_rule, validate
from gradlab.experiment.toml_text import MAX_SIZE, TOO_LARGE, line_of, why_too_large
from gradlab.shipped import folder as shipped_folder
from gradlab.user_code import is_function_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gradlab.experiment.model import Experiment

DEFAULT_EXPERIMENT = "diverging_loss"


class Override(NamedTuple):
    """A value of the command line in place of the file's: its key, the value, and its flag."""

    key: tuple[str, ...]
    value: object
    flag: str

    @classmethod
    def parse(cls, text: str) -> Override:
        """Return the override of `--set KEY=VALUE`: a line of TOML, where a string needs no quotes.

        The KEY may be one of `SHORT_KEYS`; keep and every are left to `overrides_of`.
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
    """Return the override of each `--set KEY=VALUE` after `others`; keep and every together make one mode.

    Raises:
        ExperimentError: one is malformed, or no valid keep or every; or others choose the modes already.
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
    """Return the experiments that ship with gradlab: name and file."""
    return {file.stem: file for file in sorted(shipped_folder().glob("*.toml"))}


def load(name: str, overrides: list[Override] | None = None, command: str = "run") -> Experiment:
    """Return the experiment in the TOML file `name`, or the one of that name that ships with gradlab.

    Args:
        name: of the file or the experiment.
        overrides: the command line's values.
        command: of gradlab, for the message that a task's name needs --task.

    Raises:
        ExperimentError: it does not exist, is not TOML, or has mistakes: file, line, key and value.
    """
    file = locate(name, command)
    text = read_text(file)
    try:
        values = tomllib.loads(text)
    except ValueError as error:
        raise ExperimentError(f"{file} is not TOML: {shortened(error, 200)}") from None
    return _validate({"name": file.stem, **values}, overrides or [], file.parent, file, text)


def location_of(experiment: Experiment, *key: str) -> str:
    """Return the place of a key in the experiment's file, such as `mine.toml:7: `; "" where there is no file."""
    return "" if experiment.file is None else f"{experiment.file}:{line_of(read_text(experiment.file), key)}: "


def to_plain(experiment: Experiment) -> dict[str, Any]:
    """Return an experiment as plain values, for `from_plain`, without its expect and vary."""
    return experiment.model_dump(mode="json", exclude={"vary", "expect"})


def from_plain(
    values: dict[str, Any], folder: Path | None, changed: Mapping[tuple[str, ...], object], flag: str = ""
) -> Experiment:
    """Return the experiment of these values, some of them changed, after the checks of a file.

    Args:
        values: of `to_plain`.
        folder: of the experiment's file.
        changed: by the path of a key, such as ("optimizer", "lr").
        flag: the subject of messages, such as `--vary lr`.

    Raises:
        GradlabError: a value is invalid.
    """
    return _validate(values, [Override(key, each, flag) for key, each in changed.items()], folder)


def from_task(task: str, overrides: list[Override] | None = None) -> Experiment:
    """Return an experiment named after the task: SGD with lr 0.01, 10 epochs, seed 42."""
    name = tasks.find(task).function
    return _validate({"name": name}, [Override(("task",), task, "--task"), *(overrides or [])])


def locate(name: str, command: str = "run") -> Path:
    """Return the file of the experiment `name`: a TOML file, or one that ships with gradlab.

    Raises:
        ExperimentError: it does not exist; for the name of a task, how `command` takes one.
    """
    known = shipped()
    by_plain_name = {each.replace("-", "_").lower(): each for each in known}
    file = Path(name)
    key = name.replace("-", "_").lower()
    asked = f"gradlab {command} --task {shortened(name)}"
    if file.suffix == ".py":
        raise ExperimentError(f"'{shortened(name)}' is not an experiment. To run a task in it: {asked}:FUNCTION")
    if file.suffix != ".toml" and (is_function_name(name) or (key in tasks.BUILT_IN and key not in by_plain_name)):
        raise ExperimentError(f"{shortened(name)} names a task: {asked}")
    if file.suffix == ".toml" or len(file.parts) != 1:
        if not file.is_file():
            what = f"{shortened(name)} is a folder" if file.is_dir() else f"there is no file {shortened(name)}"
            raise ExperimentError(f"{what}; experiments that ship: {', '.join(known)}")
        return file
    if key not in by_plain_name:
        raise ExperimentError(unknown("experiment", name, known))
    return known[by_plain_name[key]]


def read_text(file: Path) -> str:
    """Return the text of an experiment's file, its lines ending with line feeds.

    Raises:
        ExperimentError: it cannot be read, is not UTF-8, or is larger or nested more deeply than any experiment.
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
) -> Experiment:
    flags = {override.key: override.flag for override in overrides}
    return validate(_overridden(values, overrides), Faults(file, text, flags), folder, file)


def _overridden(values: dict[str, Any], overrides: list[Override]) -> dict[str, Any]:
    values = dict(values)
    for override in sorted(overrides, key=lambda each: each.key not in _RESETS):
        *path, last = override.key
        section = values
        for part in path:
            inner = section.get(part, {})
            if not isinstance(inner, dict):
                raise ExperimentError(f"{override.flag}: {part} is not a table")
            section[part] = dict(inner)
            section = section[part]
        section[last] = override.value
        if override.key in _RESETS:  # the options of another task or optimizer would not fit
            values |= _RESETS[override.key](values)
        if override.key in _EXCLUSIVE and _EXCLUSIVE[override.key] not in {each.key for each in overrides}:
            values.pop(_EXCLUSIVE[override.key][0], None)
    return values


_RESETS: dict[tuple[str, ...], Callable[[dict[str, Any]], dict[str, Any]]] = {
    ("task",): lambda _: {"task_options": {}},
    ("optimizer", "name"): lambda values: {
        "optimizer": {key: value for key, value in values["optimizer"].items() if key in ("name", "lr")}
    },
}
_EXCLUSIVE: dict[tuple[str, ...], tuple[str]] = {("epochs",): ("steps",), ("steps",): ("epochs",)}
