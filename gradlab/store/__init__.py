"""Run folders: the only package that knows a path or a file format.

runs/<experiment>/experiment.json                            the last command that found all its runs done
runs/<experiment>/<mode>-seed<S>-<identity>/run.json         what the run is; replaced atomically
runs/<experiment>/<mode>-seed<S>-<identity>/metrics.jsonl    one line a row, at the latest half a second old
runs/<experiment>/<mode>-seed<S>-<identity>/checkpoint-<step>.pt   until it is done: what it needs to go on
runs/<experiment>/sweep-<identity>/sweep.json                what a sweep is; replaced atomically
runs/<experiment>/sweep-<identity>/results.jsonl             one line a cell of runs, each with its SHA-256
"""

from gradlab.store.checkpoints import load_checkpoint
from gradlab.store.export import csv_of, csv_of_sweep
from gradlab.store.files import modified_at, strict_json, write_bytes
from gradlab.store.folders import (
    RUNS,
    ExperimentFolder,
    RunFolder,
    experiment_folder,
    experiments,
    newest_sweep,
)
from gradlab.store.record_files import now
from gradlab.store.row_log import RowLog
from gradlab.store.run_record import LastRequest, RunRecord
from gradlab.store.sweeps import Block, BlockLog, Results, SweepFolder, SweepRecord

__all__ = [
    "RUNS",
    "Block",
    "BlockLog",
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
    "load_checkpoint",
    "modified_at",
    "newest_sweep",
    "now",
    "strict_json",
    "write_bytes",
]
