"""Run folders: the only package that knows paths and file formats.

The files of a run are in runs/<experiment>/<mode>-seed<S>-<identity>/:

* run.json: the record, replaced atomically
* metrics.jsonl: one line per row, written within half a second
* evaluations.jsonl: one line per evaluation, written at once, if the run is evaluated
* checkpoint-<step>.pt: the state to resume from, until the run is done
* stdout.txt, stderr.txt: what a user's script printed, of `gradlab compare`

The files of a sweep are in runs/<experiment>/sweep-<identity>/:

* sweep.json: the record, replaced atomically
* results.jsonl: one line per cell of runs, with its SHA-256

runs/<experiment>/experiment.json holds the last command that found all its runs done.
"""

from gradlab.store.checkpoints import load_checkpoint
from gradlab.store.evaluation_log import EvaluationLog
from gradlab.store.export import csv_of, csv_of_sweep, merged, run_columns
from gradlab.store.files import PAGE_MARK, modified_at, strict_json, write_bytes, write_page
from gradlab.store.folders import (
    RUNS,
    ExperimentFolder,
    RunFolder,
    experiment_folder,
    experiments,
    holds_runs,
    newest_sweep,
)
from gradlab.store.record_files import now
from gradlab.store.row_log import RowLog
from gradlab.store.run_record import LastRequest, RunRecord
from gradlab.store.sweeps import Block, BlockLog, Results, SweepFolder, SweepRecord

__all__ = [
    "PAGE_MARK",
    "RUNS",
    "Block",
    "BlockLog",
    "EvaluationLog",
    "ExperimentFolder",
    "LastRequest",
    "Results",
    "RowLog",
    "RunFolder",
    "RunRecord",
    "SweepFolder",
    "SweepRecord",
    "csv_of",
    "csv_of_sweep",
    "experiment_folder",
    "experiments",
    "holds_runs",
    "load_checkpoint",
    "merged",
    "modified_at",
    "newest_sweep",
    "now",
    "run_columns",
    "strict_json",
    "write_bytes",
    "write_page",
]
