"""The folders of runs and experiments, and the names of their files."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gradlab.errors import StoreError
from gradlab.store.checkpoints import write_checkpoint
from gradlab.store.evaluation_log import EvaluationLog, Evaluations, evaluations_in
from gradlab.store.files import make_folder, modified_at, read_bytes, replace_json
from gradlab.store.locks import is_locked, open_locked
from gradlab.store.record_files import RecordedFolder, now, parsed_record
from gradlab.store.row_log import RowLog, Rows, rows_in, whole_rows
from gradlab.store.run_record import LastRequest, RunRecord
from gradlab.store.sweeps import SweepFolder, sweep_at, sweeps_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RUNS = Path("runs")
_REQUEST = "experiment.json"
_MOST_REQUESTED = 1000  # runs in experiment.json
_CHECKPOINT = re.compile(r"checkpoint-(\d{1,18})\.pt")
_CHECKPOINTS_KEPT = 2  # the previous one is used if the newest is damaged
_LONGEST = 255  # bytes of a file name on common file systems


class RunFolder(RecordedFolder[RunRecord]):
    """The folder of one run, and the names of its files."""

    record_name, log_name = "run.json", "metrics.jsonl"
    kind, what = RunRecord, "a run's record"

    @property
    def rows_file(self) -> Path:
        """metrics.jsonl."""
        return self.log_file

    @property
    def evaluations_file(self) -> Path:
        """evaluations.jsonl, if the run is evaluated."""
        return self.path / "evaluations.jsonl"

    @property
    def stdout_file(self) -> Path:
        """stdout.txt, what a user's script printed."""
        return self.path / "stdout.txt"

    @property
    def stderr_file(self) -> Path:
        """stderr.txt."""
        return self.path / "stderr.txt"

    def remove(self) -> None:
        """Remove the folder with all its files."""
        shutil.rmtree(self.path, ignore_errors=True)

    def log(self, keep: int = 0) -> RowLog:
        """Open the log to append rows: keep the rows of steps 0 to keep-1, and cut off the others.

        Raises:
            StoreError: the file cannot be written, another process writes it, or it has too few intact rows. The file
                stays unchanged.
        """
        try:
            return RowLog(self.rows_file, keep)
        except BlockingIOError:
            raise self.being_written() from None

    def rows(self) -> Rows:
        """Return the rows logged so far; a partial last line is skipped.

        Raises:
            StoreError: the file cannot be read.
        """
        return rows_in(self.logged(), self.rows_file)

    def evaluation_log(self, before: int = 0) -> EvaluationLog:
        """Open the log to append evaluations: keep those of steps below `before`, and cut off the others.

        Raises:
            StoreError: the file cannot be written, or another process writes it.
        """
        try:
            return EvaluationLog(self.evaluations_file, before)
        except BlockingIOError:
            raise self.being_written() from None

    def remove_evaluations(self) -> None:
        """Remove the evaluations of an earlier training."""
        _remove(self.evaluations_file)

    def evaluations(self) -> Evaluations:
        """Return the evaluations logged so far; a partial last line is skipped.

        Raises:
            StoreError: the file cannot be read.
        """
        file = self.evaluations_file
        return evaluations_in(read_bytes(file) if file.is_symlink() or file.exists() else b"", file)

    def whole_rows(self) -> int:
        """Return the number of leading rows that are intact and in order, from step 0 on.

        Raises:
            StoreError: the file cannot be read.
        """
        return whole_rows(self.logged())

    def verified_record(self, record: RunRecord, rows: Rows | None = None) -> tuple[RunRecord, str]:
        """Return the record and what is wrong with its logs; a run with missing rows counts as failed, not done.

        Args:
            record: the run's record.
            rows: the run's rows, read after the record; None to read them here.

        Raises:
            StoreError: the rows cannot be read.
        """
        fault = ""
        if record.status == "done":
            fault = self._fault_of_rows(record, rows) or self._fault_of_evaluations(record)
        command = "compare" if record.compared else "run"
        return (
            (replace(record, status="failed"), f"{fault}; `gradlab {command}` retrains it") if fault else (record, "")
        )

    def _fault_of_rows(self, record: RunRecord, rows: Rows | None) -> str:
        if rows is None:
            logged = self.logged()
            if record.rows_sha256 == hashlib.sha256(logged).hexdigest():
                return ""
            rows = rows_in(logged, self.rows_file)
        if record.rows != len(rows.rows):
            return f"{self.rows_file} has {len(rows.rows)} of {record.rows} rows"
        if rows.damaged:
            return f"{self.rows_file} has lines that are not rows"
        if record.rows_sha256 not in ("", rows.sha256):
            return f"{self.rows_file} does not match its recorded SHA-256"
        return ""

    def _fault_of_evaluations(self, record: RunRecord) -> str:
        if record.evaluations is None:  # not evaluated, or by an earlier version
            return ""
        found = self.evaluations()
        if record.evaluations != len(found.evaluations):
            return f"{self.evaluations_file} has {len(found.evaluations)} of {record.evaluations} evaluations"
        if record.evaluations_sha256 != found.sha256:
            return f"{self.evaluations_file} does not match its recorded SHA-256"
        return ""

    def checkpoints(self) -> list[Path]:
        """Return the checkpoint files, latest step first."""
        return [file for _, file in sorted(self._checkpoints(), reverse=True)]

    def save_checkpoint(self, step: int, content: bytes) -> None:
        """Write a checkpoint after this step atomically, and remove all but the previous one.

        Raises:
            StoreError: the checkpoint cannot be written; earlier ones are kept.
        """
        write_checkpoint(self.path / f"checkpoint-{step}.pt", content)
        for old in self.checkpoints()[_CHECKPOINTS_KEPT:]:
            _remove(old)

    def clear_checkpoints(self, after: int = 0) -> None:
        """Remove the checkpoints of steps greater than `after`."""
        for step, file in self._checkpoints():
            if step > after:
                _remove(file)

    def remove_stale_checkpoints(self) -> None:
        """Remove checkpoints of a finished run that a killed process left; keep those of a running one."""
        if self.checkpoints() and not is_locked(self.rows_file):
            self.clear_checkpoints()

    def _checkpoints(self) -> list[tuple[int, Path]]:
        names = [(_CHECKPOINT.fullmatch(file.name), file) for file in self.path.glob("checkpoint-*.pt")]
        return [(int(name[1]), file) for name, file in names if name]


@dataclass(frozen=True)
class ExperimentFolder:
    """The folder of an experiment's runs."""

    path: Path

    def picture_file(self, name: str) -> Path:
        """Return the default picture of `gradlab plot` of this name, such as loss.png."""
        return self.path / f"{_plain_name(name, _LONGEST - 4)}.png"

    @property
    def request_file(self) -> Path:
        """experiment.json."""
        return self.path / _REQUEST

    def run(self, mode: str, seed: int, identity: str) -> RunFolder:
        """Return the folder of a run, which may not exist."""
        ending = f"-seed{seed}-{identity}"
        return RunFolder(self.path / (_plain_name(mode, _LONGEST - len(ending)) + ending))

    def runs(self) -> list[RunFolder]:
        """Return the folders of its runs, by name."""
        return [RunFolder(record.parent) for record in sorted(self.path.glob(f"*/{RunFolder.record_name}"))]

    def sweeps(self) -> list[SweepFolder]:
        """Return the folders of its sweeps, last written first."""
        return sweeps_in(self.path)

    def drop_if_empty(self) -> None:
        """Remove the folder if it is empty."""
        with suppress(OSError):
            self.path.rmdir()

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Keep other processes from the work of this name in the folder.

        Raises:
            StoreError: another process does it.
        """
        file = self.path / f".{name}.lock"
        try:
            handle = open_locked(file)
            while not _is_open(file, handle):  # the last owner removed the file before it ended
                os.close(handle)
                handle = open_locked(file)
        except BlockingIOError:
            raise StoreError(f"{self.path}: another gradlab is doing the same. Wait for it, or end it.") from None
        try:
            yield
        finally:
            if sys.platform == "win32":  # which removes no open file
                os.close(handle)
                _remove(file)
            else:
                _remove(file)
                os.close(handle)

    def save_request(self, runs: Sequence[RunFolder], modes: list[str], *, match_lr: bool) -> None:
        """Record that a command asked for finished runs, so that their group is shown though no run started.

        Args:
            runs: the finished runs.
            modes: the command's modes, in its order.
            match_lr: whether the command matched learning rates.

        Raises:
            StoreError: the file cannot be written.
        """
        names = [run.path.name for run in runs[:_MOST_REQUESTED]]
        replace_json(self.request_file, asdict(LastRequest(names, now(), modes, match_lr)))

    def last_request(self) -> LastRequest | None:
        """Return the last request for finished runs, or None if it is missing, damaged or from the future."""
        try:
            request = parsed_record(self.request_file, LastRequest, "a request")
        except StoreError:
            return None
        return request if request.at <= now() else None

    def modified_at(self) -> float:
        """Return the time of the last training or request; 0 if the folder has no runs."""
        records = [run.record_file for run in self.runs()] + [sweep.record_file for sweep in self.sweeps()]
        return max(map(modified_at, [*records, self.request_file])) if records else 0.0


def experiment_folder(out: Path, experiment: str) -> ExperimentFolder:
    """Return the folder of `experiment` under `out`; create it if necessary.

    Raises:
        StoreError: the folder cannot be created or written to.
    """
    folder = ExperimentFolder(out / experiment)
    make_folder(folder.path)
    return folder


def experiments(out: Path) -> list[ExperimentFolder]:
    """Return the experiments under `out`, last run first; none if the folder does not exist.

    Raises:
        StoreError: `out` is a file.
    """
    if out.exists() and not out.is_dir():
        raise StoreError(f"{out} is not a folder")
    found = [ExperimentFolder(each) for each in out.iterdir() if each.is_dir()] if out.exists() else []
    times = {each: written for each in found if (written := each.modified_at())}
    return sorted(times, key=lambda each: times[each], reverse=True)


def holds_runs(path: Path) -> bool:
    """Say whether a folder is that of a run or sweep, or has such in it, as runs/ or that of an experiment has."""
    with suppress(OSError):
        for kind in (RunFolder, SweepFolder):
            for above in ("", "*/", "*/*/"):
                if any(each.with_name(kind.log_name).exists() for each in path.glob(f"{above}{kind.record_name}")):
                    return True
    return False


def newest_sweep(path: Path) -> SweepFolder | None:
    """Return the sweep at `path` that was trained last, or None if runs were trained later.

    The path is the folder of a sweep, of an experiment or of several experiments. Of several, the newest one counts.
    """
    if (itself := sweep_at(path)) or RunFolder(path).record_file.exists() or not path.is_dir():
        return itself
    experiment = ExperimentFolder(path)
    runs, sweep = experiment.runs(), next(iter(experiment.sweeps()), None)
    if not runs and not sweep:
        newest = experiments(path)
        return newest_sweep(newest[0].path) if newest else None
    last_of_runs = max(map(modified_at, [*(run.record_file for run in runs), experiment.request_file]))
    return sweep if sweep and modified_at(sweep.record_file) >= last_of_runs else None


def _is_open(file: Path, handle: int) -> bool:
    """Say whether the handle is that of the file, and not of one that was removed."""
    try:
        return os.path.samestat(file.stat(), os.fstat(handle))
    except OSError:
        return False


def _remove(file: Path) -> None:
    with suppress(OSError):
        file.unlink(missing_ok=True)


def _plain_name(name: str, longest: int) -> str:
    """Return a mode's name as a visible file name of at most `longest` bytes."""
    plain = "".join(char if char.isprintable() and char not in "/\\" else "_" for char in name.replace(":", "-"))
    if plain.startswith("."):
        plain = "_" + plain[1:]
    return plain.encode()[:longest].decode(errors="ignore")
