"""gradlab sweep: train a grid of runs."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradlab.cli import options
from gradlab.cli.app import app
from gradlab.cli.output import print_json, print_message, print_result, stdout_console
from gradlab.cli.pictures import draw_sweeps
from gradlab.cli.training_session import progress_display, training_session
from gradlab.errors import DONE, FAILED, PlotError
from gradlab.wording import reused

if TYPE_CHECKING:
    from gradlab.sweeps import SweepResult


@app.command()
@options.takes_experiment_options(options.EXPERIMENT_OPTIONS)
def sweep(
    experiment: options.ExperimentName = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=RANGE",
            help="Vary a key, as in lr=1e-3:4:33:log, keep=0:1:33 or batch_size=1,40. Repeat for a grid. "
            "Default: the experiment's.",
        ),
    ] = None,
    *,
    engine: Annotated[
        str | None,
        typer.Option(metavar="ENGINE", help="Training engine: loop or ensemble. Default: the fastest available."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Train in N processes. Default: one per core.", min=1, max=1024)
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Train on the workers of this Dask scheduler, as in tcp://HOST:8786. Default: on this machine.",
        ),
    ] = None,
    out: options.Out = options.RUNS,
    plot: options.Plot = None,
    fresh: options.Fresh = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    **values: Any,
) -> None:
    """Train a grid of runs and count where they converge, oscillate or diverge."""
    overrides = options.overrides_in(values)
    chosen = options.choose_experiment("sweep", experiment, values["task"], overrides)
    from gradlab import plotting, sweeps
    from gradlab.terminal.progress import SweepProgress

    sweeps.check_place(workers, dask)
    if plot:
        plotting.check_formats(plot)
    grid = sweeps.grid_of(chosen, vary or [], engine=engine, overrides=overrides)
    if plot:
        plotting.check_axes({axis.key: axis.values for axis in grid.axes}, grid.mode_names)
    progress = None if json or quiet else SweepProgress(progress_display())
    with training_session(progress) as stop:
        outcome = sweeps.run(grid, out, fresh=fresh, workers=workers, dask=dask, progress=progress, stop=stop)
    if json:
        print_json(_outcome_json(outcome))
    else:
        _print_outcome(outcome, quiet=quiet)
        if not plot and not quiet and _can_be_drawn(outcome):
            print_message(f"To draw: gradlab plot {shlex.quote(str(outcome.folder.path))}")
    if plot and _has_verdict(outcome):
        draw_sweeps([outcome.folder], plot, quiet=json or quiet)
    raise typer.Exit(FAILED if outcome.failed else DONE)


def _outcome_json(outcome: SweepResult) -> dict[str, Any]:
    rate = outcome.record.rate and round(outcome.record.rate, 1)
    shown = {"folder": str(outcome.folder.path), "runs": outcome.record.runs, "run_steps_per_second": rate}
    return shown | {"cached": outcome.cached} | ({"failed": outcome.failed} if outcome.failed else {})


def _print_outcome(outcome: SweepResult, *, quiet: bool) -> None:
    from gradlab.terminal.sweep_summary import error_messages, lost_message, sequential_messages, sweep_lines

    console = stdout_console()
    for line in sweep_lines(outcome.record, outcome.ended):
        console.print(line)
    print_result(f"results: {outcome.folder.path}")
    for message in (*error_messages(outcome), *lost_message(outcome, "Run the same command")):
        print_message(message)
    if quiet:
        return
    for message in sequential_messages(outcome):
        print_message(message)
    if outcome.record.training_set_batches:
        used, of = outcome.record.training_set_batches
        shortfall = f"the mean of {used:,} of {of:,} batches"
        print_message(f"training_set_loss is {shortfall}: all would take more than about 10 % of the sweep.")
    if outcome.cached:
        print_message(reused(outcome.cached, outcome.record.runs))


def _has_verdict(outcome: SweepResult) -> bool:
    """Return whether a run of the sweep has a verdict."""
    return any(count for word, count in outcome.ended.items() if word != "failed")


def _can_be_drawn(outcome: SweepResult) -> bool:
    from gradlab import plotting

    try:
        plotting.check_axes(outcome.record.values, outcome.record.modes)
    except PlotError:
        return False
    return _has_verdict(outcome)
