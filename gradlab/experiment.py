"""Experiments: a task, an optimizer, modes and seeds; TOML in, one canonical form and identity out."""

from __future__ import annotations

import hashlib
import inspect
import json
import tomllib
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gradlab import modes, optimizers, tasks
from gradlab.errors import ExperimentError, GradlabError, nearest, shortened, unknown
from gradlab.toml_lines import line_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gradlab.modes import Mode

DEFAULT = "diverging_loss"

Count = Annotated[int, Field(ge=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Option = bool | int | float | str | list[bool | int | float | str]


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class OptimizerSettings(_Section):
    """`[optimizer]`: a name, a learning rate, and whatever else the optimizer takes."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Option]

    name: str = "SGD"
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01

    @property
    def options(self) -> dict[str, Any]:
        """What the optimizer's constructor is called with, after the parameters."""
        return {"lr": self.lr, **(self.model_extra or {})}


class Expected(_Section):
    """`[expect.MODE]`: what each run of the mode must have done.

    `epoch_losses` are the mean losses of the first epochs, compared to as many decimals as are written.
    """

    verdict: Literal["falls", "rises", "oscillates", "diverges", "flat"] | None = None
    steps: Count | None = None
    updates: Count | None = None
    first_loss_below: Number | None = None
    first_loss_above: Number | None = None
    last_loss_below: Number | None = None
    last_loss_above: Number | None = None
    best_loss_below: Number | None = None
    best_loss_above: Number | None = None
    epoch_losses: Annotated[list[Number], Field(min_length=1)] | None = None

    def claims(self) -> dict[str, Any]:
        """Return the keys that were given, with what they expect."""
        return self.model_dump(exclude_none=True)


class Experiment(_Section):
    """A validated experiment, names in their canonical spelling."""

    name: Annotated[str, Field(pattern=r"^\w[\w .+=-]*$", max_length=100)]
    title: str = ""
    task: str
    task_options: dict[str, Option] = {}
    modes: Annotated[list[str], Field(min_length=1)] = list(modes.DEFAULT)
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)] = [42]
    epochs: Count | None = None
    steps: Count | None = None
    device: str = "cpu"
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    optimizer: OptimizerSettings = Field(default_factory=lambda: OptimizerSettings.model_validate({}))
    expect: dict[str, Expected] = {}

    folder: Annotated[Path | None, Field(exclude=True)] = (
        None  # where the file stands: a user's task is looked for there
    )

    @cached_property
    def task_name(self) -> tasks.TaskName:
        """Where the task comes from."""
        return tasks.find(self.task, self.folder)

    @cached_property
    def parsed_modes(self) -> list[Mode]:
        """The modes, in the order given."""
        return [modes.parse(word) for word in self.modes]

    @cached_property
    def task_source(self) -> str | None:
        """SHA-256 of the file of a user's task, None for a built-in one."""
        return tasks.source_hash(self.task_name)

    def settings(self, mode: Mode, seed: int) -> dict[str, Any]:
        """Return all that decides the rows of one run, in canonical form."""
        return {
            "task": self.task_name.name,
            "task_source": self.task_source,
            "task_options": _with_defaults(self.task_name, self.task_options),
            "optimizer": {"name": self.optimizer.name, **self.optimizer.options},
            "mode": mode.name,
            "seed": seed,
            **({"epochs": self.epochs} if self.steps is None else {"steps": self.steps}),
            "device": self.device,
            "threads": self.threads,
        }


def identity(settings: Mapping[str, Any]) -> str:
    """Return what tells runs apart: twelve hexadecimal digits of the SHA-256 of their settings."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


# From a file or a name, with what the command line says on top


class Override(NamedTuple):
    """A value that the command line puts over the file's: where it goes, what it is, and the flag it came by."""

    key: tuple[str, ...]
    value: object
    flag: str

    @classmethod
    def parse(cls, text: str) -> Override:
        """Return what `--set KEY=VALUE` says: a line of TOML, or a VALUE that needs no quotes where it is a string."""
        name, equals, value = text.partition("=")
        for line in (text, f"{name}={json.dumps(value, ensure_ascii=False)}") if equals else ():
            try:
                found: Any = tomllib.loads(line)
            except (tomllib.TOMLDecodeError, RecursionError):
                continue
            key: tuple[str, ...] = ()
            while isinstance(found, dict) and len(found) == 1:
                ((part, found),) = found.items()
                key = (*key, part)
            return cls(key, found, f"--set {'.'.join(key)}")
        wrong = f"--set {shortened(text)}" if equals else f"--set {shortened(text)} has no '='"
        raise ExperimentError(f"{wrong}: write --set KEY=VALUE, such as --set optimizer.momentum=0.9")


def shipped() -> dict[str, Path]:
    """Return the experiments that come with gradlab: name and file."""
    inside = Path(__file__).parent / "experiments"  # where a wheel puts them
    folder = inside if inside.is_dir() else Path(__file__).parent.parent / "experiments"
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def load(name: str, overrides: list[Override] | None = None) -> Experiment:
    """Return the experiment in the TOML file `name`, or the one of that name that ships with gradlab.

    Raises:
        ExperimentError: there is none, it is not TOML, or something in it does not hold: file, line, key and value.
    """
    return _Source.of_file(locate(name)).experiment(overrides or [])


def from_task(task: str, overrides: list[Override] | None = None) -> Experiment:
    """Return a fresh experiment named after the task: SGD with lr 0.01, 10 epochs, seed 42."""
    name = tasks.find(task).function
    return _Source(None, "", {"name": name}).experiment([Override(("task",), task, "--task"), *(overrides or [])])


def locate(name: str) -> Path:
    """Return the file of the experiment `name`: a TOML file, or one that ships with gradlab."""
    known = shipped()
    file = Path(name)
    if file.suffix == ".toml" or len(file.parts) != 1:
        if not file.is_file():
            raise ExperimentError(f"there is no file {shortened(name)}; experiments that ship: {', '.join(known)}")
        return file
    by_plain_name = {each.replace("-", "_").lower(): each for each in known}
    key = by_plain_name.get(name.replace("-", "_").lower())
    if key is None:
        hint = f"\nthere is a task of that name: gradlab run --task {name}" if name in tasks.BUILT_IN else ""
        raise ExperimentError(unknown("experiment", name, known) + hint)
    return known[key]


class _Source(NamedTuple):
    """Values of an experiment before they are checked, and where they stand."""

    file: Path | None
    text: str
    values: dict[str, Any]

    @classmethod
    def of_file(cls, file: Path) -> _Source:
        try:
            text = file.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
            values = tomllib.loads(text)
        except OSError as error:
            raise ExperimentError(f"{file} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise ExperimentError(
                f"{file} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#x}"
            ) from None
        except tomllib.TOMLDecodeError as error:
            raise ExperimentError(f"{file} is not TOML: {shortened(error, 200)}") from None
        except RecursionError:
            raise ExperimentError(f"{file} is nested too deeply for an experiment") from None
        return cls(file, text, {"name": file.stem, **values})

    def experiment(self, overrides: list[Override]) -> Experiment:
        values = self._overridden(overrides)
        flags = {override.key: override.flag for override in overrides}
        try:
            made = Experiment.model_validate({**values, "folder": self.file.parent if self.file else None})
        except ValidationError as error:
            raise ExperimentError(self._explained(error, flags)) from None
        return self._checked(made, flags)

    def _overridden(self, overrides: list[Override]) -> dict[str, Any]:
        values: dict[str, Any] = dict(self.values)
        for override in overrides:
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
        with self._located(("modes",), flags):
            words = [modes.parse(word).name for word in made.modes]
            _no_doubles("mode", words)
        with self._located(("seeds",), flags):
            _no_doubles("seed", made.seeds)
        with self._located(("optimizer", "name"), flags):
            optimizer = optimizers.find(made.optimizer.name)
        for option in made.optimizer.options:
            with self._located(("optimizer", option), flags):
                optimizers.check_options(optimizer, [option])
        with self._located(("task",), flags):
            task = tasks.find(made.task, self.file.parent if self.file else None)
        if (
            task.name in tasks.BUILT_IN
        ):  # a user's own is imported for this, so it waits until there is something to train
            with self._located(("task_options",), flags):
                tasks.check_options(task, made.task_options)
        if made.epochs is not None and made.steps is not None:
            with self._located(("steps",), flags):
                raise ExperimentError("give epochs or steps, not both")
        expect = {}
        for word, expected in made.expect.items():
            with self._located(("expect", word), flags):
                expect[modes.parse(word).name] = expected
        updates: dict[str, Any] = {
            "modes": words,
            "optimizer": made.optimizer.model_copy(update={"name": optimizer}),
            "epochs": 10 if made.epochs is None and made.steps is None else made.epochs,
            "expect": expect,
        }
        return made.model_copy(update=updates)

    @contextmanager
    def _located(self, key: tuple[str, ...], flags: dict[tuple[str, ...], str]) -> Iterator[None]:
        """Say in which line of the file the fault stands, unless the value came from the command line."""
        try:
            yield
        except GradlabError as error:
            if self.file is None or any(flag[: len(key)] == key for flag in flags):
                raise
            raise ExperimentError(f"{self.file}:{line_of(self.text, key)}: {error}") from None

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
        wrong = fault["msg"].replace("Input should be", "must be").replace("a valid integer", "an integer")
        wrong = wrong.replace("a valid ", "a ")
        if fault["type"] == "string_pattern_mismatch":
            wrong = "must be letters, digits, spaces and _ . + = - only, and start with a letter or digit"
        if len(key) != len(
            location
        ):  # pydantic names the branch of a union that it tried, which says nothing to a user
            wrong = _OPTION if _UNION_BRANCHES & set(map(str, location)) else wrong
        return f"{where}{subject} {wrong[0].lower()}{wrong[1:]}, got {shortened(_shown(fault['input']))}"


_RESETS: dict[tuple[str, ...], Callable[[dict[str, Any]], dict[str, Any]]] = {
    ("task",): lambda _: {"task_options": {}},
    ("optimizer", "name"): lambda values: {
        "optimizer": {key: value for key, value in values["optimizer"].items() if key in ("name", "lr")}
    },
}
_EXCLUSIVE: dict[tuple[str, ...], tuple[str]] = {("epochs",): ("steps",), ("steps",): ("epochs",)}
_UNION_BRANCHES = {"bool", "int", "float", "str", "list[union[bool,int,float,str]]"}
_OPTION = "must be a number, a string, true, false or a list of these"


def _unknown_key(key: tuple[str, ...]) -> str:
    sections: dict[str, type[BaseModel]] = {"optimizer": OptimizerSettings, "expect": Expected}
    section = sections.get(key[0], Experiment) if len(key) > 1 else Experiment
    known = [name for name in section.model_fields if name != "folder"]
    *path, last = key
    elsewhere = {"batch_size": "task_options.batch_size", "lr": "optimizer.lr", "momentum": "optimizer.momentum"}
    near = elsewhere.get(last) or nearest(last, known)
    guess = f"; did you mean '{near}'?" if near else "."
    prefix = ".".join(path) + "." if path else ""
    return f"unknown key '{prefix}{shortened(last)}'{guess} Known: {', '.join(known)}"


def _no_doubles(kind: str, values: list[Any]) -> None:
    for nth, value in enumerate(values):
        if value in values[:nth]:
            raise ExperimentError(f"{kind} '{value}' is given twice")


def _with_defaults(task: tasks.TaskName, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a built-in task with its defaults, so that saying the default changes nothing."""
    if task.name not in tasks.BUILT_IN:
        return dict(options)
    parameters = inspect.signature(tasks.BUILT_IN[task.name]).parameters
    given = {key: each.default for key, each in parameters.items() if key != "seed"} | dict(options)
    return {key: float(value) if parameters[key].annotation == "float" else value for key, value in given.items()}


def _shown(value: object) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
