"""gradlab run: train one model under several modes and compare them."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import typer

from gradlab.cli import options
from gradlab.cli.app import app
from gradlab.cli.output import print_json, print_message, stdout_console
from gradlab.cli.pictures import draw_runs
from gradlab.cli.run_results import print_curves, print_errors, print_folder, print_runs, result_json
from gradlab.cli.training_session import progress_display, training_session
from gradlab.errors import DONE, FAILED

if TYPE_CHECKING:
    from gradlab.analysis.results import ExperimentResult


@app.command()
@options.takes_experiment_options(options.EXPERIMENT_OPTIONS)
def run(
    experiment: options.ExperimentName = None,
    *,
    out: options.Out = options.RUNS,
    plot: options.Plot = None,
    no_plot: options.NoPlot = False,
    fresh: options.Fresh = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    **values: Any,
) -> None:
    """Train one model under several modes and compare the losses."""
    overrides = options.overrides_in(values)
    if plot:
        from gradlab import plotting

        plotting.check_formats(plot)
    chosen = options.choose_experiment("run", experiment, values["task"], overrides)
    from gradlab import runs, store
    from gradlab.analysis.groups import newest_group
    from gradlab.terminal.progress import RunProgress

    show_progress = not (json or quiet)
    progress = RunProgress(progress_display(), chosen.runs) if show_progress else None
    with training_session(progress) as stop:
        outcome = runs.run(chosen, out, fresh=fresh, progress=progress, stop=stop)
    has_rows = any(each.rows for each in outcome.runs)
    if json:
        print_json(_outcome_json(outcome))
    else:
        _print_outcome(outcome, quiet=quiet, picture=not (quiet or no_plot))
        if has_rows and not plot and not quiet:
            print_message(f"To draw: gradlab plot {shlex.quote(str(outcome.folder))}")
    if plot and has_rows:  # also runs that differ from these only in mode or seed
        folders = [store.RunFolder(each.folder) for each in outcome.runs]
        group = newest_group(store.ExperimentFolder(outcome.folder), folders)
        draw_runs(group.runs, plot, quiet=json or quiet)
    raise typer.Exit(DONE if outcome.ok else FAILED)


def _outcome_json(outcome: ExperimentResult) -> dict[str, Any]:
    return {
        "experiment": outcome.experiment,
        "folder": str(outcome.folder),
        "runs": [result_json(each) for each in outcome.runs],
        "expectations": [each._asdict() for each in outcome.expectations],
    }


def _print_outcome(outcome: ExperimentResult, *, quiet: bool, picture: bool) -> None:
    from gradlab.terminal.run_table import evaluation_notice, expectation_lines

    print_runs(outcome.runs, epochs=not quiet)
    if picture:
        print_curves(outcome.runs)
    for expectation in expectation_lines(outcome.expectations):
        stdout_console().print(expectation)
    print_errors(outcome.runs)
    print_folder(outcome.folder, outcome.runs, quiet=quiet)
    if notice := evaluation_notice(outcome.runs, outcome.expectations):
        print_message(notice)
