"""The commands that train: run, sweep, and what is measured of a task before, sharpness."""

from __future__ import annotations

import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gradlab.cli.app import Json, Out, app
from gradlab.cli.ending import DONE, FAILED, Stopped
from gradlab.cli.reading import by_error, draw, draw_sweeps, result_json
from gradlab.cli.saying import answer, console_, print_json, say
from gradlab.errors import ExperimentError, PlotError
from gradlab.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gradlab import sweeps
    from gradlab.analysis.results import Outcome
    from gradlab.experiment import Experiment, Override
    from gradlab.runs import Stop
    from gradlab.store import RunFolder
    from gradlab.terminal.progress import Bar, Lines, SweepBar, SweepLines

Done = TypeVar("Done")

# What run and sweep both take.
Name = Annotated[
    str | None,
    typer.Argument(help="A TOML file or a shipped experiment; without one and without --task, diverging_loss."),
]
Mode = Annotated[list[str] | None, typer.Option("--mode", "-m", help="What happens to .grad; see `gradlab modes`.")]
Task = Annotated[str | None, typer.Option(help="A built-in task, FILE.py:NAME or package.module:NAME.")]
Optimizer = Annotated[str | None, typer.Option(help="Any of torch.optim by its class name, or vanilla.")]
Lr = Annotated[float | None, typer.Option(help="Learning rate.")]
Steps = Annotated[int | None, typer.Option(help="Backward passes to train for.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the batches to train for.")]
BatchSize = Annotated[int | None, typer.Option(help="The task's option batch_size.")]
Seed = Annotated[list[int] | None, typer.Option(help="Seed of a run; give several for a band.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key of the experiment file (short: lr, momentum, batch_size, keep, every).",
    ),
]
Device = Annotated[str | None, typer.Option(help="Where to train: cpu, cuda, mps.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Train again what is done.")]
Plot = Annotated[
    list[Path] | None,
    typer.Option(
        "--plot", metavar="FILE", help="Draw it as well: FILE.png, .svg or .pdf; may be given several times."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="The answer only: no progress, no hints.")]


@app.command()
def run(
    experiment: Name = None,
    mode: Mode = None,
    task: Task = None,
    optimizer: Optimizer = None,
    lr: Lr = None,
    steps: Steps = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    seed: Seed = None,
    set_: Set = None,
    engine: Annotated[
        str | None, typer.Option(help="What trains: loop (torch), ensemble (all runs at once), or tensorflow.")
    ] = None,
    device: Device = None,
    out: Out = Path("runs"),
    plot: Plot = None,
    fresh: Fresh = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train one model under several modes and compare: same weights, same batches."""
    overrides = _overrides(mode, task, optimizer, lr, steps, epochs, batch_size, device, set_)
    _check_formats(plot)
    chosen = _chosen("run", experiment, task, [*overrides, *_given(seeds=seed, engine=engine)])
    outcome = _run(chosen, out, fresh=fresh, talk=not (json or quiet))
    if json:
        print_json(_outcome_json(outcome))
    else:
        _show_outcome(outcome, quiet=quiet, drawn=bool(plot))
    if plot and _has_rows(outcome):
        draw(_group(outcome), plot, quiet=json or quiet)
    raise typer.Exit(DONE if outcome.ok else FAILED)


@app.command()
def sweep(
    experiment: Name = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=RANGE",
            help="What varies: lr=1e-3:4:33:log, keep=0:1:33, every=1,2,4, batch_size=1,40, any key of the file; "
            "several make a grid.",
        ),
    ] = None,
    mode: Mode = None,
    task: Task = None,
    optimizer: Optimizer = None,
    lr: Lr = None,
    steps: Steps = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    seed: Seed = None,
    seeds: Annotated[int | None, typer.Option(metavar="N", help="Seeds 0 to N-1.", min=1, max=100_000)] = None,
    set_: Set = None,
    engine: Annotated[str | None, typer.Option(help="What trains; default what trains most runs a second.")] = None,
    device: Device = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Processes to train in; default one a core.", min=1, max=1024)
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="A Dask scheduler, on whose workers to train instead: tcp://HOST:8786."),
    ] = None,
    out: Out = Path("runs"),
    plot: Plot = None,
    fresh: Fresh = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a grid of runs, thousands at once, and see where they converge, oscillate and diverge."""
    from gradlab.sweeps import grid_of

    if seeds and seed:
        raise ExperimentError("--seeds and --seed: give N of seeds 0 to N-1, or each seed, not both")
    if workers and dask is not None:
        raise ExperimentError("--workers and --dask: train on this machine or on a cluster, not both")
    overrides = _overrides(mode, task, optimizer, lr, steps, epochs, batch_size, device, set_)
    overrides += _given(seeds=list(range(seeds)) if seeds else seed)
    chosen = _chosen("sweep", experiment, task, overrides)
    _check_formats(plot)
    modes_by = next((each.flag for each in overrides if each.key == ("modes",)), "")
    grid = grid_of(chosen, vary or [], engine=engine, modes_by=modes_by)
    if plot:
        from gradlab import plotting

        plotting.check_axes({axis.key: axis.values for axis in grid.axes}, grid.modes)
    outcome = _sweep(grid, out, workers, dask, fresh=fresh, talk=not (json or quiet))
    if json:
        failed = {"failed": outcome.failed} if outcome.failed else {}
        rate = outcome.record.rate and round(outcome.record.rate, 1)
        shown = {"folder": str(outcome.folder.path), "runs": outcome.record.runs, "run_steps_per_second": rate}
        print_json(shown | {"cached": outcome.cached} | failed)
    else:
        _show_sweep(outcome, quiet=quiet, drawn=bool(plot))
    if plot and _has_ended(outcome):
        draw_sweeps([outcome.folder], plot, quiet=json or quiet)
    raise typer.Exit(FAILED if outcome.failed else DONE)


@app.command()
def sharpness(
    experiment: Name = None,
    mode: Mode = None,
    task: Task = None,
    batch_size: BatchSize = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seed of the task; give several for their median.")] = None,
    set_: Set = None,
    json: Json = False,
) -> None:
    """Measure the largest Hessian eigenvalue of a task's loss, and tell the largest stable lr of each mode."""
    overrides = _overrides(mode=mode, task=task, batch_size=batch_size, set_=set_)
    chosen = _chosen("sharpness", experiment, task, overrides + _given(seed))
    from gradlab.analysis import sharpness as measuring

    with redirect_stdout(sys.stderr):  # what a user's task prints is talk
        found = measuring.report(chosen, dict(measuring.measure_seeds(chosen)))
    if json:
        print_json(measuring.document(found))
    else:
        from gradlab.terminal.tables import sharpness_block

        console = console_()
        console.print(sharpness_block(found, console.width))


def _check_formats(files: list[Path] | None) -> None:
    """Refuse before hours of training what could not be drawn after them."""
    if files:
        from gradlab import plotting

        plotting.check_formats(files)


def _overrides(
    mode: list[str] | None = None,
    task: str | None = None,
    optimizer: str | None = None,
    lr: float | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    device: str | None = None,
    set_: list[str] | None = None,
) -> list[Override]:
    """Return what the options of run and sweep put over the experiment's file."""
    from gradlab.experiment import Override, overrides_of

    given: list[tuple[tuple[str, ...], object, str]] = [
        (("task",), task, "--task"),
        (("modes",), mode, "--mode"),
        (("optimizer", "name"), optimizer, "--optimizer"),
        (("optimizer", "lr"), lr, "--lr"),
        (("steps",), steps, "--steps"),
        (("epochs",), epochs, "--epochs"),
        (("task_options", "batch_size"), batch_size, "--batch-size"),
        (("device",), device, "--device"),
    ]
    return overrides_of(set_ or [], [Override(*each) for each in given if each[1] not in (None, [])])


def _given(seeds: list[int] | None = None, engine: str | None = None) -> list[Override]:
    """Return what else the command line may put over the file."""
    from gradlab.experiment import Override

    found = [Override(("seeds",), seeds, "--seed")] if seeds else []
    return found + ([Override(("engine",), engine, "--engine")] if engine is not None else [])


def _chosen(command: str, experiment: str | None, task: str | None, overrides: list[Override]) -> Experiment:
    """Return the experiment that was asked of the command."""
    from gradlab import experiment as experiments

    if task and experiment is None:
        return experiments.from_task(task, overrides)
    return experiments.load(experiments.DEFAULT_EXPERIMENT if experiment is None else experiment, overrides, command)


def _run(chosen: Experiment, out: Path, *, fresh: bool, talk: bool) -> Outcome:
    from gradlab import runs

    watcher = _watcher(len(chosen.modes) * len(chosen.seeds)) if talk else None
    return _heeding_signals(lambda stop: runs.run(chosen, out, fresh=fresh, watcher=watcher, stop=stop), watcher)


def _group(outcome: Outcome) -> list[RunFolder]:
    """Return the runs to draw: those of the command, and all that differ from them only in mode and seed."""
    from gradlab import store

    return store.ExperimentFolder(outcome.folder).group([store.RunFolder(run.folder) for run in outcome.runs]).runs


def _sweep(
    grid: sweeps.Grid, out: Path, workers: int | None, dask: str | None, *, fresh: bool, talk: bool
) -> sweeps.Outcome:
    from gradlab import sweeps

    watcher = _sweep_watcher() if talk else None
    return _heeding_signals(
        lambda stop: sweeps.run(grid, out, fresh=fresh, workers=workers, dask=dask, watcher=watcher, stop=stop),
        watcher,
    )


def _heeding_signals(train: Callable[[Stop], Done], watcher: Bar | Lines | SweepBar | SweepLines | None) -> Done:
    """Train, as long as no signal comes.

    Raises:
        Stopped: one came; what to say, and the exit status.
    """
    from gradlab import runs, startup
    from gradlab.terminal.signals import SignalledError, Signals

    startup.OURS = True
    stop = runs.Stop()
    signals = Signals(stop)
    try:
        with signals:
            try:
                with redirect_stdout(sys.stderr):  # what a user's task prints is talk
                    return train(stop)
            finally:
                if watcher:
                    watcher.close()
    except runs.StoppedError as stopped:
        raise Stopped(str(stopped), signals.status) from None
    except SignalledError:
        raise Stopped("stopped; the same command trains what is missing", signals.status) from None


# Showing


def _show_outcome(outcome: Outcome, *, quiet: bool, drawn: bool) -> None:
    from gradlab.terminal.tables import epoch_lines, expectation_lines, table_of

    console = console_()
    if not quiet:
        for line in epoch_lines(outcome.runs):
            answer(line)
    console.print(table_of(outcome.runs, console.width))
    for expectation in expectation_lines(outcome.expectations):
        console.print(expectation)
    for error, failed in by_error(outcome.runs).items():
        say(f"{', '.join(f'{run.mode} seed {run.seed}' for run in failed)} failed:\n{error}")
    answer(f"logs: {outcome.folder}")
    if quiet:
        return
    before = sum(run.cached for run in outcome.runs)
    if before:
        say(f"{before} of {counted(len(outcome.runs), 'run')} done before and not trained again (--fresh does)")
    if not drawn and _has_rows(outcome):
        say(f"picture: gradlab plot {shlex.quote(str(outcome.folder))}")


def _has_rows(outcome: Outcome) -> bool:
    return any(each.rows for each in outcome.runs)


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "experiment": outcome.experiment,
        "folder": str(outcome.folder),
        "runs": [result_json(run) for run in outcome.runs],
        "expectations": [each._asdict() for each in outcome.expectations],
    }


def _show_sweep(outcome: sweeps.Outcome, *, quiet: bool, drawn: bool) -> None:
    from gradlab.terminal.tables import sweep_lines

    console = console_()
    for line in sweep_lines(outcome.record, outcome.ended):
        console.print(line)
    answer(f"results: {outcome.folder.path}")
    for error, count in outcome.errors.items():
        say(f"{counted(count, 'run')} failed:\n{error}")
    if outcome.lost:
        say(f"{counted(outcome.lost, 'run')} not trained: {outcome.how}; the same command tries again")
    if quiet:
        return
    for why, count in outcome.by_loop.items():
        say(f"{counted(count, 'run')} trained one by one, by the plain loop: {why}")
    if outcome.cached:
        whole = counted(outcome.record.runs, "run")
        say(f"{outcome.cached:,} of {whole} done before and not trained again (--fresh does)")
    if not drawn and _has_ended(outcome) and _has_panels(outcome.record.values, outcome.record.modes):
        say(f"picture: gradlab plot {shlex.quote(str(outcome.folder.path))}")


def _has_ended(outcome: sweeps.Outcome) -> bool:
    """Say whether a run has a verdict."""
    return any(count for word, count in outcome.ended.items() if word != "failed")


def _has_panels(axes: Mapping[str, Sequence[Any]], modes: Sequence[str]) -> bool:
    from gradlab import plotting

    try:
        plotting.check_axes(axes, modes)
    except PlotError:
        return False
    return True


def _watcher(runs: int) -> Bar | Lines:
    from rich.console import Console

    from gradlab.terminal.progress import Bar, Lines

    console = Console(stderr=True)
    return Bar(console, runs) if _moves(console.is_terminal) else Lines(say, runs)


def _sweep_watcher() -> SweepBar | SweepLines:
    from rich.console import Console

    from gradlab.terminal.progress import SweepBar, SweepLines

    console = Console(stderr=True)
    return SweepBar(console) if _moves(console.is_terminal) else SweepLines(say)


def _moves(is_terminal: bool) -> bool:
    return bool(is_terminal and sys.stderr and sys.stderr.isatty())  # FORCE_COLOR makes no terminal of a log file
