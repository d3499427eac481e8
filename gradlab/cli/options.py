"""Options that several commands share: name, type, help, default and experiment key."""

from __future__ import annotations

from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gradlab.cli.completion import complete_experiment, complete_mode, complete_task
from gradlab.errors import ExperimentError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from gradlab.experiment import Experiment, Override

    Command = TypeVar("Command", bound=Callable[..., Any])

RUNS = Path("runs")  # the default folder of runs

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Out = Annotated[
    Path, typer.Option("--out", metavar="FOLDER", help="Use this folder of runs. Default: runs.", show_default=False)
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Retrain finished runs. Default: reuse them.")]
Plot = Annotated[
    list[Path] | None,
    typer.Option(
        "--plot",
        metavar="FILE",
        help="Also draw to FILE (.png, .svg or .pdf); repeat for more files. Default: no picture.",
    ),
]
NoPlot = Annotated[
    bool, typer.Option("--no-plot", help="Do not draw the curves in the terminal. Default: draw them, if it is wide.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the result: no progress, no hints.")]
ExperimentName = Annotated[
    str | None,
    typer.Argument(
        metavar="EXPERIMENT",
        help="Use this experiment: a TOML file or a shipped name. Default: diverging_loss; with --task, "
        "an experiment of that task.",
        autocompletion=complete_experiment,
    ),
]

# Options that override the experiment, in the order of help: type, key, option. Without one, the experiment decides.
EXPERIMENT_OPTIONS: dict[str, tuple[Any, str, Any]] = {
    "mode": (list[str], "modes", typer.Option(
        "--mode", "-m", metavar="MODE", autocompletion=complete_mode,
        help="Train this mode (see `gradlab modes`); repeat to compare several. Default: the experiment's.")),
    "task": (str, "task", typer.Option(
        metavar="TASK", autocompletion=complete_task,
        help="Train this task: built-in, FILE.py:NAME or package.module:NAME. Default: the experiment's.")),
    "optimizer": (str, "optimizer.name", typer.Option(
        metavar="NAME",
        help="Use this class of torch.optim, your own (FILE.py:NAME), or vanilla. Default: the experiment's.")),
    "lr": (float, "optimizer.lr", typer.Option(
        metavar="LR", help="Set the learning rate. Default: the experiment's.")),
    "steps": (int, "steps", typer.Option(
        metavar="N", help="Train for N backward passes. Default: the experiment's.")),
    "epochs": (int, "epochs", typer.Option(
        metavar="N", help="Train for N passes over the batches. Default: the experiment's.")),
    "batch_size": (int, "task_options.batch_size", typer.Option(
        metavar="N", help="Set the task's batch size. Default: the experiment's.")),
    "seed": (list[int], "seeds", typer.Option(
        metavar="SEED",
        help="Use this random seed; repeat to plot the median and range. Default: the experiment's.")),
    "seeds": (int, "", typer.Option(
        metavar="N", help="Use the seeds 0 to N-1. Default: the experiment's.", min=1, max=100_000)),
    "set_": (list[str], "", typer.Option(
        "--set", metavar="KEY=VALUE",
        help="Set a key of the experiment file. Short keys: lr, momentum, batch_size, keep, every.")),
    "engine": (str, "engine", typer.Option(
        metavar="ENGINE",
        help="Train with this engine: loop, ensemble (all runs at once) or tensorflow. Default: the experiment's.")),
    "device": (str, "device", typer.Option(
        metavar="DEVICE", help="Train on cpu, cuda or mps. Default: the experiment's.")),
}  # fmt: skip


def takes_experiment_options(names: Collection[str]) -> Callable[[Command], Command]:
    """Return a decorator that adds these options of `EXPERIMENT_OPTIONS` to a command with `**values`.

    Help lists them before the command's own keyword-only options. The command's own option replaces a shared one of
    the same name.
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
    """Return the overrides that these values of `EXPERIMENT_OPTIONS` make. Later ones win.

    Raises:
        ExperimentError: two options contradict each other, or a value of --set is malformed.
    """
    from gradlab.experiment import Override, overrides_of

    if values.get("seeds"):
        values = {**values, "seed": chosen_seeds(values["seed"], values["seeds"])}
    given = {
        name: Override(tuple(key.split(".")), values[name], f"--{name.replace('_', '-')}")
        for name, (_, key, _) in EXPERIMENT_OPTIONS.items()
        if key and values.get(name) not in (None, [])
    }
    last = [given.pop(name) for name in ("seed", "engine") if name in given]  # only these take precedence over --set
    return overrides_of(values["set_"] or [], given.values()) + last


def chosen_seeds(seed: list[int] | None, seeds: int | None) -> list[int]:
    """Return the seeds that --seed and --seeds give; none without both.

    Raises:
        ExperimentError: both are given.
    """
    if seed and seeds:
        raise ExperimentError(
            "--seeds and --seed exclude each other: use --seeds N for the seeds 0 to N-1, or --seed for every seed"
        )
    return list(range(seeds)) if seeds else seed or []


def choose_experiment(command: str, name: str | None, task: str | None, overrides: list[Override]) -> Experiment:
    """Return the experiment of this name, or one of the task alone, with the overrides.

    Raises:
        GradlabError: it does not exist, or a value is invalid.
    """
    from gradlab import experiment as experiments

    if task and name is None:
        return experiments.from_task(task, overrides, command)
    return experiments.load(experiments.DEFAULT_EXPERIMENT if name is None else name, overrides, command)
