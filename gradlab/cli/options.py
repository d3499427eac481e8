"""The options that several commands take, each written once: its name, type, help, default and experiment key."""

from __future__ import annotations

from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gradlab.errors import ExperimentError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

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

# The options that override an experiment, in the order of help: type, key, option. They default to None.
EXPERIMENT_OPTIONS: dict[str, tuple[Any, str, Any]] = {
    "mode": (list[str], "modes", typer.Option("--mode", "-m", help="What happens to .grad; see `gradlab modes`.")),
    "task": (str, "task", typer.Option(help="A built-in task, FILE.py:NAME or package.module:NAME.")),
    "optimizer": (str, "optimizer.name", typer.Option(help="Any of torch.optim by its class name, or vanilla.")),
    "lr": (float, "optimizer.lr", typer.Option(help="Learning rate.")),
    "steps": (int, "steps", typer.Option(help="Backward passes to train for.")),
    "epochs": (int, "epochs", typer.Option(help="Passes over the batches to train for.")),
    "batch_size": (int, "task_options.batch_size", typer.Option(help="The task's option batch_size.")),
    "seed": (list[int], "seeds", typer.Option(help="Seed of a run; give several for a band.")),
    "seeds": (int, "", typer.Option(metavar="N", help="Seeds 0 to N-1.", min=1, max=100_000)),
    "set_": (list[str], "", typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the experiment file "
                                         "(short: lr, momentum, batch_size, keep, every).")),
    "engine": (str, "engine", typer.Option(help="What trains: loop (torch), ensemble (all runs at once), or "
                                           "tensorflow.")),
    "device": (str, "device", typer.Option(help="Where to train: cpu, cuda, mps.")),
}  # fmt: skip


def takes_experiment_options(names: Collection[str]) -> Callable[[Command], Command]:
    """Give a command the options of `EXPERIMENT_OPTIONS` with these names, which it takes as `**values`.

    Help lists them before the command's own keyword-only options. An own option with the name of a shared one takes
    its place.
    """

    def with_options(command: Command) -> Command:
        parameters = signature(command, eval_str=True).parameters.values()
        positional = [each for each in parameters if each.kind is Parameter.POSITIONAL_OR_KEYWORD]
        own = {each.name: each for each in parameters if each.kind is Parameter.KEYWORD_ONLY}
        shared = {
            name: Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option])
            for name, (kind, _, option) in EXPERIMENT_OPTIONS.items()
            if name in names
        }
        command.__signature__ = Signature([*positional, *(shared | own).values()])  # type: ignore[attr-defined]  # Typer reads it
        return command

    return with_options


def overrides_in(values: Mapping[str, Any]) -> list[Override]:
    """Return what these values of `EXPERIMENT_OPTIONS` override, the later ones over the earlier ones.

    Raises:
        ExperimentError: two options contradict each other, or a value of --set is not of its form.
    """
    from gradlab.experiment import Override, overrides_of

    if values.get("seeds"):
        if values["seed"]:
            raise ExperimentError("--seeds and --seed: give N of seeds 0 to N-1, or each seed, not both")
        values = {**values, "seed": list(range(values["seeds"]))}
    given = {
        name: Override(tuple(key.split(".")), values[name], f"--{name.replace('_', '-')}")
        for name, (_, key, _) in EXPERIMENT_OPTIONS.items()
        if key and values.get(name) not in (None, [])
    }
    last = [given.pop(name) for name in ("seed", "engine") if name in given]  # they win over --set, the others do not
    return overrides_of(values["set_"] or [], given.values()) + last


def choose_experiment(command: str, name: str | None, task: str | None, overrides: list[Override]) -> Experiment:
    """Return the experiment of this name, or of the task alone, with the overrides.

    Raises:
        GradlabError: there is none, or a value does not hold.
    """
    from gradlab import experiment as experiments

    if task and name is None:
        return experiments.from_task(task, overrides)
    return experiments.load(experiments.DEFAULT_EXPERIMENT if name is None else name, overrides, command)
