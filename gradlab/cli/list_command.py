"""gradlab list: list runs and sweeps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from gradlab.cli import options
from gradlab.cli.app import app
from gradlab.cli.output import print_json, print_message, print_messages, stdout_console
from gradlab.errors import AT_FAULT, GradlabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gradlab.store import RunFolder, RunRecord, SweepFolder, SweepRecord

Folder = TypeVar("Folder")
Read = TypeVar("Read")


@app.command(name="list")
def list_(out: options.Out = options.RUNS, json: options.Json = False) -> None:
    """List runs and sweeps, the newest experiment first."""
    from gradlab import store

    experiments = store.experiments(out)
    damaged: list[str] = []
    runs = _readable((run for each in experiments for run in each.runs()), _read_run, damaged)
    sweeps = _readable((sweep for each in experiments for sweep in each.sweeps()), _read_sweep, damaged)
    if json:
        listed: dict[str, Any] = {"runs": [_run_json(run, record) for run, record, _ in runs]}
        listed |= {"sweeps": [_sweep_json(*each) for each in sweeps]} if sweeps else {}
        print_json(listed | ({"damaged": damaged} if damaged else {}))
    elif runs or sweeps:
        _print_tables([record for _, record, _ in runs], [(record, done) for _, record, done in sweeps])
    elif not damaged:
        to = "" if out == options.RUNS else f" --out {out}"
        print_message(f"No runs under {out}. `gradlab run{to}` trains some.")
    print_messages([lack for _, _, lack in runs if lack])
    if damaged and json:
        raise typer.Exit(AT_FAULT)
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        raise GradlabError(damaged[0] + more)


def _readable(folders: Iterable[Folder], read: Callable[[Folder], Read], damaged: list[str]) -> list[Read]:
    """Return the readable folders' content. Append the errors of the others to `damaged`."""
    found = []
    for folder in folders:
        try:
            found.append(read(folder))
        except GradlabError as error:
            damaged.append(str(error))
    return found


def _read_run(run: RunFolder) -> tuple[RunFolder, RunRecord, str]:
    """Return the run, its record with the number of rows so far, and the fault of its log if it has one."""
    record, lack = run.verified_record(run.read())
    return run, replace(record, rows=run.whole_rows()) if record.rows is None else record, lack


def _read_sweep(sweep: SweepFolder) -> tuple[SweepFolder, SweepRecord, int]:
    """Return the sweep, its record and the number of finished runs; only an unfinished sweep's results are read."""
    record = sweep.read()
    return sweep, record, record.done if record.status == "done" else len(sweep.results().by_run())


def _run_json(run: RunFolder, record: RunRecord) -> dict[str, Any]:
    keys = ("experiment", "mode", "seed", "status", "rows", "started", "seconds")
    return {key: getattr(record, key) for key in keys} | {"folder": str(run.path)}


def _sweep_json(sweep: SweepFolder, record: SweepRecord, done: int) -> dict[str, Any]:
    keys = ("experiment", "status", "runs", "started", "seconds")
    axes = {key: len(values) for key, values in record.values.items()}
    return {key: getattr(record, key) for key in keys} | {"done": done, "axes": axes, "folder": str(sweep.path)}


def _print_tables(runs: list[RunRecord], sweeps: list[tuple[SweepRecord, int]]) -> None:
    from gradlab.terminal.lists import run_list, sweep_list

    console = stdout_console()
    if runs:
        console.print(run_list(runs, console.width))
    if sweeps:
        console.print(sweep_list(sweeps, console.width))
