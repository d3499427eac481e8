"""The runs and sweeps in the folders that a command names, read with a message for all that is damaged or missing."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from gradlab.cli.output import print_message, print_messages
from gradlab.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gradlab.rows import Row
    from gradlab.store import Results, RunFolder, RunRecord, SweepRecord


def select_runs(folders: list[Path] | None) -> list[RunFolder]:
    """Return the runs that the folders stand for, each once; those of the newest experiment where none is given.

    Print how many runs of an experiment's folder are not among them, because their settings differ.
    """
    from gradlab import store
    from gradlab.analysis.groups import group_at

    given = folders or [store.RUNS]
    if len(given) > 1:  # runs/NAME/* matches files of ours too
        given = [folder for folder in given if not folder.is_file()]
    groups = [group_at(folder) for folder in given]
    for experiment, others in {group.runs[0].path.parent: group.others for group in groups if group.others}.items():
        above = Path(os.path.normpath(experiment / ".."))  # also of the current folder
        out = "" if above == store.RUNS else f" --out {shlex.quote(str(above))}"
        print_message(
            f"Not shown: {counted(others, 'run')} in {experiment} with other settings, or copies. "
            f"`gradlab list{out} --json` names their folders; give these to show, plot or export."
        )
    return list(dict.fromkeys(run for group in groups for run in group.runs))


def read_runs(runs: Iterable[RunFolder]) -> Iterator[tuple[RunRecord, list[Row]]]:
    """Yield the record and the rows of each run, without damaged lines, which a message names."""
    for run in runs:
        record, logged = run.read(), run.rows()
        record, lack = run.verified_record(record, logged)
        print_messages(logged.damaged)
        print_messages([lack] if lack else [])
        yield record, logged.rows


def print_missing_runs(record: SweepRecord, results: Results) -> None:
    """Print how many runs a sweep lacks; a damaged line is not named where its runs were trained again."""
    if missing := record.runs - len(results.by_run()):
        print_messages(results.damaged)
        print_message(f"the sweep is not whole: {record.status}, {missing:,} of {record.runs:,} runs are missing")
