"""The validated experiment: a task, an optimizer, modes and seeds, in canonical form with an identity."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator

from gradlab import modes, optimizers, schedules, tasks, user_code

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gradlab.modes import Mode
    from gradlab.optimizers import OptimizerName
    from gradlab.schedules import ScheduleName

Count = Annotated[int, Field(ge=1, le=10**12)]
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]
# fail_fast: report only the first mistake of a list
Option = bool | Int64 | FiniteFloat | str | Annotated[list[bool | Int64 | FiniteFloat | str], Field(fail_fast=True)]


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class OptimizerSettings(_Section):
    """`[optimizer]`: a name, a learning rate, and the optimizer's other options."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Option]

    name: str = "SGD"
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the optimizer's constructor, after the parameters."""
        return {"lr": self.lr, **(self.model_extra or {})}


class ScheduleSettings(_Section):
    """`[schedule]`: a name, how often it steps, and the schedule's other options."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Option]

    name: str = ""
    every: Literal["update", "epoch"] | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the schedule's constructor, after the optimizer."""
        return dict(self.model_extra or {})


class Expected(_Section):
    """`[expect.MODE]`: the expected results of every run of the mode.

    `epoch_losses` are the mean losses of the first epochs. They are compared after rounding to the decimals of the
    longest given number. Other keys are names of values of the last evaluation, each with a comparison: "> 0.9".
    """

    model_config = ConfigDict(extra="allow")

    verdict: Literal["falls", "rises", "oscillates", "diverges", "flat"] | None = None
    steps: Count | None = None
    updates: Count | None = None
    first_loss_below: FiniteFloat | None = None
    first_loss_above: FiniteFloat | None = None
    last_loss_below: FiniteFloat | None = None
    last_loss_above: FiniteFloat | None = None
    best_loss_below: FiniteFloat | None = None
    best_loss_above: FiniteFloat | None = None
    epoch_losses: Annotated[list[FiniteFloat], Field(min_length=1, fail_fast=True)] | None = None

    def claims(self) -> dict[str, Any]:
        """Return the given keys with their expected values."""
        return self.model_dump(exclude_none=True)

    @property
    def measured(self) -> dict[str, Any]:
        """The expected values of the last evaluation: comparisons, by name."""
        return self.model_extra or {}


class Experiment(_Section):
    """A validated experiment with all names in canonical spelling."""

    name: Annotated[str, Field(pattern=r"^\w([\w .+=-]*[\w+=-])?$", max_length=100)]  # a folder name on any system
    title: str = ""
    task: str
    task_options: dict[str, Option] = {}
    modes: Annotated[list[str], Field(min_length=1, fail_fast=True)] = list(modes.DEFAULT)
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1, fail_fast=True)] = [42]
    epochs: Count | None = None
    steps: Count | None = None
    engine: Literal["loop", "ensemble", "tensorflow"] = "loop"
    device: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(:\d{1,4})?$")] = "cpu"
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    optimizer: OptimizerSettings = Field(default_factory=lambda: OptimizerSettings.model_validate({}))
    clip_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    schedule: ScheduleSettings | None = None
    match_lr: bool = False
    log: list[Literal["geometry"]] = []  # beside the loss
    evaluate_every: Count | None = None  # steps; None evaluates at the end of each epoch
    checkpoint_every: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0  # seconds; not part of the identity
    expect: dict[str, Expected] = {}
    vary: dict[str, Any] = {}  # axes of a sweep, parsed there; not part of a run

    @field_validator("schedule", mode="before")
    @classmethod
    def _as_table(cls, given: object) -> object:
        return {"name": given} if isinstance(given, str) else given

    _folder: Path | None = PrivateAttr(None)
    _file: Path | None = PrivateAttr(None)
    _modes: list[Mode] = PrivateAttr(default_factory=list)

    @property
    def folder(self) -> Path | None:
        """The folder of the experiment's file: the first place to search for a user's task."""
        return self._folder

    @property
    def file(self) -> Path | None:
        """The experiment's file, or None."""
        return self._file

    @property
    def parsed_modes(self) -> list[Mode]:
        """The modes, in the order given."""
        return self._modes

    @property
    def runs(self) -> int:
        """The number of runs: modes × seeds."""
        return len(self.modes) * len(self.seeds)

    def located(self, folder: Path | None, file: Path | None, parsed: Sequence[Mode] = ()) -> Experiment:
        """Return a copy with this folder, file and parsed modes."""
        copy = self.model_copy()
        copy._folder, copy._file, copy._modes = folder, file, list(parsed)  # noqa: SLF001 - of the same class
        return copy

    @cached_property
    def task_name(self) -> tasks.TaskName:
        """The task's name and, for a user's task, its file or module."""
        return tasks.find(self.task, self.folder)

    @cached_property
    def task_source(self) -> str | None:
        """SHA-256 of the file of a user's task, None for a built-in one."""
        return user_code.source_hash(self.task_name)

    @cached_property
    def optimizer_name(self) -> OptimizerName:
        """The optimizer's name in torch's spelling, or a user's own class."""
        return optimizers.find(self.optimizer.name, self.folder)

    @cached_property
    def optimizer_source(self) -> str | None:
        """SHA-256 of the file of a user's optimizer, None for another."""
        name = self.optimizer_name
        return None if isinstance(name, str) else user_code.source_hash(name)

    @cached_property
    def schedule_name(self) -> ScheduleName | None:
        """The schedule's name in torch's spelling, or a user's own function; None without a schedule."""
        return None if self.schedule is None else schedules.find(self.schedule.name, self.folder)

    @property
    def schedule_every(self) -> schedules.Every:
        """How often the schedule steps."""
        name = self.schedule_name
        if self.schedule is None or name is None:
            return "update"
        return self.schedule.every or schedules.default_every(name)

    def optimizer_options(self, mode: Mode) -> dict[str, Any]:
        """Return the optimizer's options of a run; with `match_lr`, its lr is scaled for the mode.

        Raises:
            ModeError: the mode has no effective lr to match.
        """
        options = self.optimizer.options
        if not self.match_lr:
            return options
        # rounded: in floats, 0.05·(1 − 0.9) is slightly below 0.005
        lr = float(f"{options['lr'] * modes.matched_lr_scale(mode):.12g}")
        return {**options, "lr": lr}

    def settings(self, mode: Mode, seed: int) -> dict[str, Any]:
        """Return all settings that determine the rows of one run, in canonical form."""
        return {
            "task": self.task_name.name,
            "task_source": self.task_source,
            "task_options": _with_defaults(self.task_name, self.task_options),
            "optimizer": {
                "name": user_code.title_of(self.optimizer_name),
                **_as_floats(self.optimizer_options(mode)),
            },
            **({"optimizer_source": self.optimizer_source} if self.optimizer_source else {}),
            **({} if self.engine == "loop" else {"engine": self.engine}),
            **({} if self.clip_norm is None else {"clip_norm": self.clip_norm}),
            **self._schedule_settings(),
            **({"log": self.log} if self.log else {}),
            **({} if self.evaluate_every is None else {"evaluate_every": self.evaluate_every}),
            "mode": mode.name,
            **({"mode_source": user_code.source_hash(mode.own)} if mode.own else {}),
            "seed": seed,
            **({"epochs": self.epochs} if self.steps is None else {"steps": self.steps}),
            "device": self.device,
            "threads": self.threads,
            **({"dtype": dtype} if (dtype := changed_dtype()) else {}),
        }

    def _schedule_settings(self) -> dict[str, Any]:
        name = self.schedule_name
        if self.schedule is None or name is None:
            return {}
        if isinstance(name, str) and name in schedules.SHAPES:
            return {"schedule": name}
        options = {"name": user_code.title_of(name), "every": self.schedule_every, **_as_floats(self.schedule.options)}
        source = {} if isinstance(name, str) else {"schedule_source": user_code.source_hash(name)}
        return {"schedule": options, **source}


def changed_dtype() -> str:
    """Return torch's default dtype if this process has changed it, such as "float64"; "" for float32."""
    torch = sys.modules.get("torch")
    return "" if torch is None else str(torch.get_default_dtype()).removeprefix("torch.").replace("float32", "")


def identity(settings: Mapping[str, Any]) -> str:
    """Return the identity of a run: twelve hexadecimal digits of the SHA-256 of its settings."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _with_defaults(task: tasks.TaskName, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a built-in task with its defaults added, so a default written out changes nothing."""
    if task.name not in tasks.BUILT_IN:
        return dict(options)
    parameters = inspect.signature(tasks.BUILT_IN[task.name]).parameters
    complete = {key: each.default for key, each in parameters.items() if key != "seed"} | dict(options)
    return {key: float(value) if parameters[key].annotation == "float" else value for key, value in complete.items()}


def _as_floats(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with integers as floats, which optimizers treat alike."""

    def as_float(value: Any) -> Any:
        if isinstance(value, list):
            return [as_float(each) for each in value]
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    return {key: as_float(value) for key, value in options.items()}
