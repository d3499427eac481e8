"""The options that several commands take, each written once: its name, help, default and key of the experiment."""

from __future__ import annotations

from dataclasses import dataclass, fields
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_type_hints

import typer

from gradlab.errors import ExperimentError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from gradlab.experiment import Experiment, Override

    Command = TypeVar("Command", bound=Callable[..., Any])

RUNS = Path("runs")  # where runs go by default

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Out = Annotated[Path, typer.Option("--out", help="The folder of runs.", show_default=True)]
Fresh = Annotated[bool, typer.Option("--fresh", help="Train again what is done.")]
Plot = Annotated[
    list[Path] | None,
    typer.Option(
        "--plot", metavar="FILE", help="Draw it as well: FILE.png, .svg or .pdf; may be given several times."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="The answer only: no progress, no hints.")]
ExperimentName = Annotated[
    str | None,
    typer.Argument(help="A TOML file or a shipped experiment; without one and without --task, diverging_loss."),
]


class Key:
    """The key of the experiment that an option overrides.

    Attributes:
        path: the names that lead to it.
        beats_set: whether the option wins over `--set` of the same key; otherwise `--set` does.
    """

    def __init__(self, *path: str, beats_set: bool = False) -> None:
        self.path = path
        self.beats_set = beats_set


@dataclass(frozen=True)
class ExperimentOptions:
    """The options that choose and override an experiment, in the order in which help lists them."""

    mode: Annotated[
        list[str] | None,
        typer.Option("--mode", "-m", help="What happens to .grad; see `gradlab modes`."),
        Key("modes"),
    ] = None
    task: Annotated[
        str | None, typer.Option(help="A built-in task, FILE.py:NAME or package.module:NAME."), Key("task")
    ] = None
    optimizer: Annotated[
        str | None,
        typer.Option(help="Any of torch.optim by its class name, or vanilla."),
        Key("optimizer", "name"),
    ] = None
    lr: Annotated[float | None, typer.Option(help="Learning rate."), Key("optimizer", "lr")] = None
    steps: Annotated[int | None, typer.Option(help="Backward passes to train for."), Key("steps")] = None
    epochs: Annotated[int | None, typer.Option(help="Passes over the batches to train for."), Key("epochs")] = None
    batch_size: Annotated[
        int | None, typer.Option(help="The task's option batch_size."), Key("task_options", "batch_size")
    ] = None
    seed: Annotated[
        list[int] | None,
        typer.Option(help="Seed of a run; give several for a band."),
        Key("seeds", beats_set=True),
    ] = None
    seeds: Annotated[int | None, typer.Option(metavar="N", help="Seeds 0 to N-1.", min=1, max=100_000)] = None
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a key of the experiment file (short: lr, momentum, batch_size, keep, every).",
        ),
    ] = None
    engine: Annotated[
        str | None,
        typer.Option(help="What trains: loop (torch), ensemble (all runs at once), or tensorflow."),
        Key("engine", beats_set=True),
    ] = None
    device: Annotated[str | None, typer.Option(help="Where to train: cpu, cuda, mps."), Key("device")] = None

    def __post_init__(self) -> None:
        if self.seeds and self.seed:
            raise ExperimentError("--seeds and --seed: give N of seeds 0 to N-1, or each seed, not both")

    def experiment(self, name: str | None, command: str) -> Experiment:
        """Return the experiment of this name, or of the task alone, with the overrides.

        Raises:
            GradlabError: there is none, or a value does not hold.
        """
        from gradlab import experiment as experiments

        if self.task and name is None:
            return experiments.from_task(self.task, self.overrides())
        return experiments.load(experiments.DEFAULT if name is None else name, self.overrides(), command)

    def overrides(self) -> list[Override]:
        """Return what the options override, the later ones over the earlier ones."""
        from gradlab.experiment import Override, overrides_of

        values = vars(self) | ({"seed": list(range(self.seeds))} if self.seeds else {})
        before_set: list[Override] = []
        after_set: list[Override] = []
        for name, key in _KEYS.items():
            if values[name] not in (None, []):
                override = Override(key.path, values[name], f"--{name.replace('_', '-')}")
                (after_set if key.beats_set else before_set).append(override)
        return overrides_of(self.set_ or [], before_set) + after_set


_HINTS = get_type_hints(ExperimentOptions, include_extras=True)
_KEYS = {name: part for name, hint in _HINTS.items() for part in get_args(hint) if isinstance(part, Key)}


def takes_experiment_options(
    only: Collection[str] = tuple(_HINTS), without: Collection[str] = ()
) -> Callable[[Command], Command]:
    """Give a command the options of `ExperimentOptions`, which it takes as `**options`.

    Help lists them before the command's own keyword-only parameters. One of these that has the name of a shared
    option takes its place.

    Args:
        only: the options to take.
        without: the options to leave out.
    """

    def with_options(command: Command) -> Command:
        parameters = signature(command, eval_str=True).parameters.values()
        positional = [each for each in parameters if each.kind is Parameter.POSITIONAL_OR_KEYWORD]
        own = {each.name: each for each in parameters if each.kind is Parameter.KEYWORD_ONLY}
        shared = {
            field.name: Parameter(
                field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=_HINTS[field.name]
            )
            for field in fields(ExperimentOptions)
            if field.name in only and field.name not in without
        }
        command.__signature__ = Signature([*positional, *(shared | own).values()])  # type: ignore[attr-defined]  # Typer reads it
        return command

    return with_options
