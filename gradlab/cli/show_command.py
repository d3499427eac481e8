"""gradlab show: show the settings and results of a run, an experiment or a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradlab.cli.app import app
from gradlab.cli.options import Json, NoPlot
from gradlab.cli.output import print_json, print_message, print_messages, print_result, stdout_console
from gradlab.cli.run_results import print_curves, print_evaluations, print_runs, result_json
from gradlab.cli.stored_runs import select_runs

if TYPE_CHECKING:
    from gradlab.store import RunRecord, SweepFolder, SweepRecord


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Show this run, experiment or sweep.")],
    *,
    json: Json = False,
    no_plot: NoPlot = False,
) -> None:
    """Show the settings and results of a run, an experiment or a sweep."""
    from gradlab import store

    if sweep := store.newest_sweep(folder):
        _show_sweep(sweep, as_json=json)
    else:
        _show_runs(folder, as_json=json, picture=not no_plot)


def _show_runs(folder: Path, *, as_json: bool, picture: bool) -> None:
    from gradlab.analysis.results import result_of

    runs = select_runs([folder])
    results = [result_of(run, cached=True) for run in runs]
    record = runs[0].read()
    if as_json:
        shown = {"experiment": record.experiment, "folder": str(folder)}
        print_json(shown | {"runs": [result_json(each) for each in results]})
        return
    _print_settings(record, without=("mode", "seed"))
    print_runs(results)
    print_evaluations(results)
    if picture:
        print_curves(results)
    for error in dict.fromkeys(each.error for each in results if each.error):
        print_message(error)
    for each in results:
        print_messages(each.damaged)


def _show_sweep(sweep: SweepFolder, *, as_json: bool) -> None:
    from gradlab.terminal.sweep_summary import range_lines, sweep_lines

    record, results = sweep.read(), sweep.results()
    ended = results.ended()
    if as_json:
        keys = ("experiment", "title", "settings", "axes", "modes", "seeds", "status", "runs", "started", "seconds")
        shown = {key: getattr(record, key) for key in keys} | {"run_steps_per_second": record.rate}
        shown |= {"folder": str(sweep.path), "done": sum(ended.values()), "ended": ended}
        print_json(shown | {"ranges": results.ranges(), "training_set_batches": record.training_set_batches})
        return
    _print_settings(record, without=("vary", "modes", "seeds"))
    console = stdout_console()
    for line in [*sweep_lines(record, ended), *range_lines(results.ranges())]:
        console.print(line)
    print_messages(results.damaged if sum(ended.values()) < record.runs else [])


def _print_settings(record: RunRecord | SweepRecord, without: tuple[str, ...]) -> None:
    """Print title, settings, start time and versions."""
    print_result(f"{record.experiment}: {record.title}" if record.title else record.experiment)
    for key, value in record.settings.items():
        if key not in without and value not in (None, {}):
            print_result(f"  {key}: {_setting_text(value)}")
    print_result(f"  {record.started}, " + ", ".join(f"{name} {version}" for name, version in record.versions.items()))
    print()


def _setting_text(value: object) -> str:
    return ", ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, dict) else str(value)
