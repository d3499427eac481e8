"""Run folders: the only package that knows a path or a file format.

runs/<experiment>/experiment.json                            which runs stand for it: those of the last settings
runs/<experiment>/<mode>-seed<S>-<identity>/run.json         what the run is; replaced atomically
runs/<experiment>/<mode>-seed<S>-<identity>/metrics.jsonl    one line a row, at the latest half a second old
runs/<experiment>/<mode>-seed<S>-<identity>/checkpoint-<step>.pt   until it is done: what it needs to go on
"""

from gradlab.store.checkpoints import load_checkpoint
from gradlab.store.export import csv_of
from gradlab.store.files import strict_json, write_bytes
from gradlab.store.folders import RUNS, ExperimentFolder, RunFolder, experiment_folder, experiments, make_run, runs_at
from gradlab.store.records import FORMAT, RunRecord
from gradlab.store.row_log import RowLog, Rows

__all__ = [
    "FORMAT",
    "RUNS",
    "ExperimentFolder",
    "RowLog",
    "Rows",
    "RunFolder",
    "RunRecord",
    "csv_of",
    "experiment_folder",
    "experiments",
    "load_checkpoint",
    "make_run",
    "runs_at",
    "strict_json",
    "write_bytes",
]
