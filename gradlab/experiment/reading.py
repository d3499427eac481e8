"""From a TOML file or a name to an experiment, with what the command line says on top; faults are told by line."""

from __future__ import annotations

import json
import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ValidationError

from gradlab import modes, optimizers, tasks
from gradlab.errors import ExperimentError, GradlabError, OptimizerError, nearest, shortened, unknown
from gradlab.experiment.model import Expected, Experiment, OptimizerSettings
from gradlab.shipped import folder as shipped_folder
from gradlab.toml_text import LARGEST, excess, line_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gradlab.modes import Mode

DEFAULT = "diverging_loss"
LONGEST_NAME = 200  # bytes: file systems take 255, and pictures and copies add to it
MOST_RUNS = 100_000  # of one experiment: a folder each, and all are planned before the first is trained


class Override(NamedTuple):
    """A value that the command line puts over the file's: where it goes, what it is, and the flag it came by."""

    key: tuple[str, ...]
    value: object
    flag: str

    @classmethod
    def parse(cls, text: str) -> Override:
        """Return what `--set KEY=VALUE` says: a line of TOML, or a VALUE that needs no quotes where it is a string."""
        if wrong := excess(text):
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
            return cls(key, found, f"--set {shortened('.'.join(key))}")
        wrong = f"--set {shortened(text)}" if equals else f"--set {shortened(text)} has no '='"
        raise ExperimentError(f"{wrong}: write --set KEY=VALUE, such as --set optimizer.momentum=0.9")


def shipped() -> dict[str, Path]:
    """Return the experiments that come with gradlab: name and file."""
    return {file.stem: file for file in sorted(shipped_folder().glob("*.toml"))}


def load(name: str, overrides: list[Override] | None = None) -> Experiment:
    """Return the experiment in the TOML file `name`, or the one of that name that ships with gradlab.

    Raises:
        ExperimentError: there is none, it is not TOML, or something in it does not hold: file, line, key and value.
    """
    return _Source.of_file(locate(name)).experiment(overrides or [])


def place_of(experiment: Experiment, *key: str) -> str:
    """Return `mine.toml:7: `, where a key stands in the experiment's file, for a message; "" where there is none."""
    return "" if experiment.file is None else f"{experiment.file}:{line_of(text_of(experiment.file), key)}: "


def plain(experiment: Experiment) -> dict[str, Any]:
    """Return a checked experiment as plain values, for `from_plain`; without what it expects and what it varies."""
    return experiment.model_dump(mode="json", exclude={"vary", "expect"})


def from_plain(
    values: dict[str, Any], folder: Path | None, changed: Mapping[tuple[str, ...], object], flag: str = ""
) -> Experiment:
    """Return the experiment of these values, `changed` in place of some, checked as if all stood in a file.

    Args:
        values: of `plain`.
        folder: of the experiment's file.
        changed: by the path of a key, such as ("optimizer", "lr").
        flag: what a fault is told of, such as `--vary lr`.

    Raises:
        GradlabError: a value does not hold.
    """
    return _Source(None, "", values, folder).experiment([Override(key, each, flag) for key, each in changed.items()])


def from_task(task: str, overrides: list[Override] | None = None) -> Experiment:
    """Return a fresh experiment named after the task: SGD with lr 0.01, 10 epochs, seed 42."""
    name = tasks.find(task).function
    return _Source(None, "", {"name": name}).experiment([Override(("task",), task, "--task"), *(overrides or [])])


def locate(name: str) -> Path:
    """Return the file of the experiment `name`: a TOML file, or one that ships with gradlab."""
    known = shipped()
    file = Path(name)
    if file.suffix == ".py":
        raise ExperimentError(f"{shortened(name)} is no experiment; a task in it: --task {shortened(name)}:FUNCTION")
    if file.suffix == ".toml" or len(file.parts) != 1:
        if not file.is_file():
            what = f"{shortened(name)} is a folder" if file.is_dir() else f"there is no file {shortened(name)}"
            raise ExperimentError(f"{what}; experiments that ship: {', '.join(known)}")
        return file
    by_plain_name = {each.replace("-", "_").lower(): each for each in known}
    key = by_plain_name.get(name.replace("-", "_").lower())
    if key is None:
        hint = f"\nthere is a task of that name: gradlab run --task {name}" if name in tasks.BUILT_IN else ""
        raise ExperimentError(unknown("experiment", name, known) + hint)
    return known[key]


def text_of(file: Path) -> str:
    """Return the text of an experiment's file, with line feeds alone at the ends of lines.

    Raises:
        ExperimentError: it cannot be read, is not UTF-8, or is larger or nested more deeply than any experiment.
    """
    try:
        with file.open("rb") as handle:
            content = handle.read(LARGEST + 1)
        text = "" if len(content) > LARGEST else content.decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise ExperimentError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ExperimentError(
            f"{file} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#x}"
        ) from None
    if wrong := excess(text or content):
        raise ExperimentError(f"{file} {wrong} for an experiment")
    return text


class _Source(NamedTuple):
    """Values of an experiment before they are checked, and where they stand."""

    file: Path | None
    text: str
    values: dict[str, Any]
    folder: Path | None = None  # of the file

    @classmethod
    def of_file(cls, file: Path) -> _Source:
        text = text_of(file)
        try:
            values = tomllib.loads(text)
        except ValueError as error:
            raise ExperimentError(f"{file} is not TOML: {shortened(error, 200)}") from None
        return cls(file, text, {"name": file.stem, **values}, file.parent)

    def experiment(self, overrides: list[Override]) -> Experiment:
        values = self._overridden(overrides)
        flags = {override.key: override.flag for override in overrides}
        try:
            made = Experiment.model_validate(values).found_in(self.folder, self.file)
            return self._checked(made, flags)
        except ValidationError as error:
            raise ExperimentError(self._explained(error, flags)) from None

    def _overridden(self, overrides: list[Override]) -> dict[str, Any]:
        values: dict[str, Any] = dict(self.values)
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

    def _checked(self, made: Experiment, flags: dict[tuple[str, ...], str]) -> Experiment:
        """Check what needs more than types, and write every name in its canonical spelling."""
        with self._located(("seeds",), flags):
            _no_more_runs_than_a_folder_holds(len(made.modes), len(made.seeds))
        with self._located(("name",), flags):
            _name_of_a_folder(made.name)
        with self._located(("modes",), flags):
            parsed = made.parsed_modes
            words = [mode.name for mode in parsed]
            _check_files(parsed)
            _no_doubles("mode", words)
        with self._located(("seeds",), flags):
            _no_doubles("seed", made.seeds)
        with self._located(("optimizer", "name"), flags):
            optimizer = optimizers.find(made.optimizer.name)
        for option, value in made.optimizer.options.items():
            with self._located(("optimizer", option), flags):
                optimizers.check_options(optimizer, {option: value})
        with self._located(("match_lr",), flags):
            if made.match_lr:
                _check_matched(optimizer, parsed)
        with self._located(("schedule",), flags):
            if made.schedule is not None and optimizer == optimizers.VANILLA:
                raise OptimizerError(f"schedule '{made.schedule}' needs an optimizer of torch.optim, such as sgd")
        if made.engine == "tensorflow":
            self._check_plain(made, optimizer, flags)
        with self._located(("task",), flags):
            task = tasks.find(made.task, self.folder)
        # A user's own task is imported for this, so it waits until there is something to train.
        if task.name in tasks.BUILT_IN:
            with self._located(("task_options",), flags):
                tasks.check_options(task, made.task_options)
        if made.epochs is not None and made.steps is not None:
            with self._located(("steps",), flags):
                raise ExperimentError("give epochs or steps, not both")
        expect: dict[str, Expected] = {}
        for word, expected in made.expect.items():
            with self._located(("expect", word), flags):
                name = modes.parse(word, made.folder).name
                if name in expect:
                    raise ExperimentError(f"mode '{name}' is given twice")
                if name not in words and ("modes",) not in flags:
                    raise ExperimentError(f"mode '{name}' is expected something of but is not in modes")
                expect[name] = expected
        updates: dict[str, Any] = {
            "modes": [word if mode.own else mode.name for word, mode in zip(made.modes, parsed, strict=True)],
            "optimizer": made.optimizer.model_copy(update={"name": optimizer}),
            "epochs": 10 if made.epochs is None and made.steps is None else made.epochs,
            "expect": expect,
        }
        return made.model_copy(update=updates)

    def _check_plain(self, made: Experiment, optimizer: str, flags: dict[tuple[str, ...], str]) -> None:
        """Refuse what engine tensorflow does not do: all but plain gradient descent on the CPU."""
        able = "engine 'tensorflow' does plain gradient descent on the CPU: SGD or vanilla, with lr alone"
        with self._located(("optimizer", "name"), flags):
            if optimizer not in ("SGD", optimizers.VANILLA):
                raise OptimizerError(f"{able}, not {optimizer}")
        for option in made.optimizer.options.keys() - {"lr"}:
            with self._located(("optimizer", option), flags):
                raise OptimizerError(f"{able}, without {option}")
        if own := next((mode for mode in made.parsed_modes if mode.own), None):
            with self._located(("modes",), flags):
                raise ExperimentError(f"{able}, and the rule of keep and every, not mode '{own.name}' of your own")
        usual = {"clip_norm": None, "schedule": None, "device": "cpu"}
        for key, value in usual.items():
            if getattr(made, key) != value:
                with self._located((key,), flags):
                    raise ExperimentError(f"{able}, without {key} = {getattr(made, key)}")

    @contextmanager
    def _located(self, key: tuple[str, ...], flags: dict[tuple[str, ...], str]) -> Iterator[None]:
        """Say in which line of the file the fault stands, unless the value came from the command line."""
        try:
            yield
        except GradlabError as error:
            if not (place := self._place(key, flags)):
                raise
            raise ExperimentError(f"{place}{error}") from None

    def _place(self, key: tuple[str, ...], flags: Mapping[tuple[str, ...], str]) -> str:
        """Return file and line of a key, as a message begins with; "" where the command line gave it."""
        if self.file is None or any(flag[: len(key)] == key for flag in flags):
            return ""
        return f"{self.file}:{line_of(self.text, key)}: "

    def _explained(self, error: ValidationError, flags: dict[tuple[str, ...], str]) -> str:
        """Say of the first fault where it is, what is wrong, and what would work."""
        fault = error.errors(include_url=False)[0]
        location = fault["loc"]
        key = tuple(str(part) for part in location if isinstance(part, str) and part not in _UNION_BRANCHES)
        flag = next((flag for path, flag in flags.items() if path == key[: len(path)]), None)
        name = ".".join(key)
        where = "" if flag else f"{self.file}:{line_of(self.text, key)}: " if self.file else ""
        subject = flag if flag and not flag.startswith("--set") else name
        if fault["type"] == "extra_forbidden":
            return f"{where}{_unknown_key(key)}"
        if fault["type"] == "missing":
            return f"{where}{name} is missing"
        wrong = fault["msg"].replace("Input should be", "must be").replace("a valid ", "a ")
        wrong = _IN_TOML.get(fault["type"], wrong)
        if key == ("device",):
            wrong = "must be like cpu, cuda or cuda:1"
        if _UNION_BRANCHES & set(map(str, location)):  # pydantic tells which branch it tried: nothing to a user
            wrong = "must be a number, a string, true, false or a list of these"
        theirs = key == ("name",) and not flag and (self.file is None or fault["input"] == self.file.stem)
        hint = "\nthat is what its file or function is called; give it another: name = …" if theirs else ""
        return f"{where}{subject} {wrong}, got {shortened(_shown(fault['input']))}{hint}"


_RESETS: dict[tuple[str, ...], Callable[[dict[str, Any]], dict[str, Any]]] = {
    ("task",): lambda _: {"task_options": {}},
    ("optimizer", "name"): lambda values: {
        "optimizer": {key: value for key, value in values["optimizer"].items() if key in ("name", "lr")}
    },
}
_EXCLUSIVE: dict[tuple[str, ...], tuple[str]] = {("epochs",): ("steps",), ("steps",): ("epochs",)}
_UNION_BRANCHES = {"bool", "int", "float", "str", "list[union[bool,int,float,str]]"}
ELSEWHERE = {
    "batch_size": "task_options.batch_size",
    "learning_rate": "optimizer.lr",
    "lr": "optimizer.lr",
    "momentum": "optimizer.momentum",
}
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{nth}" for port in ("COM", "LPT") for nth in "0123456789¹²³")}
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


def _unknown_key(key: tuple[str, ...]) -> str:
    sections: dict[str, type[BaseModel]] = {"optimizer": OptimizerSettings, "expect": Expected}
    section = sections.get(key[0], Experiment) if len(key) > 1 else Experiment
    known = list(section.model_fields)
    *path, last = key
    near = ELSEWHERE.get(last) or nearest(last, known)
    guess = f"; did you mean '{near}'?" if near else "."
    prefix = ".".join(path) + "." if path else ""
    return f"unknown key '{prefix}{shortened(last)}'{guess} Known: {', '.join(known)}"


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
        modes.share_of_matched_lr(mode)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return repr(value)
    except ValueError:  # Python writes no integer of more than 4300 digits
        return "a number of more digits than can be shown"
