"""Runs and sweeps in the folders that a command names. Damaged or missing ones are reported."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from gradlab.cli.output import print_message, print_messages
from gradlab.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gradlab.analysis.quantities import LoggedRun
    from gradlab.store import Results, RunFolder, SweepRecord


def select_runs(folders: list[Path] | None) -> list[RunFolder]:
    """Return the runs of these folders without duplicates. Default: those of the newest experiment.

    Print how many runs of an experiment's folder are left out because their settings differ.
    """
    from gradlab import store
    from gradlab.analysis.groups import group_at

    given = folders or [store.RUNS]
    if len(given) > 1:  # runs/NAME/* also matches gradlab's files
        given = [folder for folder in given if not folder.is_file()]
    groups = [group_at(folder) for folder in given]
    for experiment, others in {group.runs[0].path.parent: group.others for group in groups if group.others}.items():
        above = Path(os.path.normpath(experiment / ".."))  # "/.." also works for the current folder
        out = "" if above == store.RUNS else f" --out {shlex.quote(str(above))}"
        print_message(
            f"Not shown: {counted(others, 'run')} in {experiment} with other settings, or copies. "
            f"To use them, pass their folders, which `gradlab list{out} --json` lists."
        )
    return list(dict.fromkeys(run for group in groups for run in group.runs))


def read_runs(runs: Iterable[RunFolder]) -> Iterator[LoggedRun]:
    """Yield every run with all that it logged. Skip damaged lines, with a message."""
    from gradlab.analysis.quantities import LoggedRun

    for run in runs:
        record, logged, evaluated = run.read(), run.rows(), run.evaluations()
        record, lack = run.verified_record(record, logged)
        print_messages([*logged.damaged, *evaluated.damaged])
        print_messages([lack] if lack else [])
        yield LoggedRun(record, logged.rows, evaluated.evaluations)


def evaluated_names(runs: Iterable[RunFolder]) -> list[str]:
    """Return the names of all values of the runs' evaluations."""
    values = (each.values for run in runs for each in run.evaluations().evaluations)
    return list(dict.fromkeys(name for each in values for name in each))


def print_missing_runs(record: SweepRecord, results: Results) -> None:
    """Report the missing runs of a sweep, with damaged lines. Say nothing if no run is missing."""
    if missing := record.runs - len(results.by_run()):
        print_messages(results.damaged)
        print_message(f"The sweep is incomplete: {record.status}, {missing:,} of {record.runs:,} runs are missing.")
