"""The folders of runs and experiments, and the names of all files in them."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gradlab.errors import StoreError, shortened
from gradlab.store.checkpoints import checkpoints, clear_checkpoints, save_checkpoint
from gradlab.store.files import make_folder, read_json, replace_json
from gradlab.store.locks import is_locked
from gradlab.store.recorded import being_written, current_record, parsed_record, read_if_there, write_record
from gradlab.store.records import FORMAT, RunRecord, checked
from gradlab.store.row_log import RowLog, Rows, rows_in, whole_rows
from gradlab.store.sweeps import SweepFolder, sweep_at, sweeps_in

if TYPE_CHECKING:
    from collections.abc import Iterable

RUNS = Path("runs")
_RECORD, _ROWS, _LAST = "run.json", "metrics.jsonl", "experiment.json"
_LONGEST = 255  # bytes of a name, on every file system in use


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, and the names of the files in it."""

    path: Path

    @property
    def record_file(self) -> Path:
        """run.json."""
        return self.path / _RECORD

    @property
    def rows_file(self) -> Path:
        """metrics.jsonl."""
        return self.path / _ROWS

    def write(self, record: RunRecord) -> None:
        """Replace the record atomically; while it says "running", with the name of this process.

        Raises:
            StoreError: it cannot be written.
        """
        write_record(self.record_file, record)

    def read(self) -> RunRecord:
        """Return the record; one that says "running" while no process writes the rows is that of an interrupted run.

        Raises:
            StoreError: there is none, or it is not one that this version reads.
        """
        return current_record(self._recorded, self.rows_file)

    def log(self, keep: int = 0) -> RowLog:
        """Return what appends rows after the first `keep`, those of steps 0 to keep-1; all others are cut off.

        Raises:
            StoreError: the file cannot be written, or another process writes it, or it begins with fewer whole rows;
                it stays as it is then.
        """
        try:
            return RowLog(self.rows_file, keep)
        except BlockingIOError:
            raise being_written(self.rows_file, self._recorded) from None

    def rows(self) -> Rows:
        """Return the rows logged so far, none where none is; a last line without its end is left out.

        Raises:
            StoreError: the file cannot be read.
        """
        return rows_in(self._logged(), self.rows_file)

    def whole_rows(self) -> int:
        """Return how many rows there are that can be gone on from: of steps 0, 1, 2, …, up to the first damaged line.

        Raises:
            StoreError: the file cannot be read.
        """
        return whole_rows(self._logged())

    def standing(self, record: RunRecord, rows: Rows | None = None) -> tuple[RunRecord, str]:
        """Return the record and what its run lacks; one recorded as done that lacks rows has failed.

        Rows that are given were read after the record.

        Raises:
            StoreError: the file of rows cannot be read.
        """
        lack = self.lacks(record, rows) if record.status == "done" else ""
        return (replace(record, status="failed"), f"{lack}; `gradlab run` trains it again") if lack else (record, "")

    def lacks(self, record: RunRecord, rows: Rows | None = None) -> str:
        """Say in a line what a run that is recorded as done lacks; "" where its rows are those that were logged.

        Raises:
            StoreError: the file of rows cannot be read.
        """
        if rows is None:
            logged = self._logged()
            if record.rows_sha256 == hashlib.sha256(logged).hexdigest():
                return ""
            rows = rows_in(logged, self.rows_file)
        if record.rows != len(rows.rows):
            return f"{self.rows_file} holds {len(rows.rows)} of {record.rows} rows"
        if rows.damaged:
            return f"{self.rows_file} holds lines that are no rows"
        if record.rows_sha256 not in ("", rows.sha256):
            return f"{self.rows_file} holds other rows than were logged"
        return ""

    def checkpoints(self) -> list[Path]:
        """Return the files of its checkpoints, the newest first."""
        return checkpoints(self.path)

    def save_checkpoint(self, step: int, content: bytes) -> None:
        """Write a checkpoint after so many steps, whole or not at all.

        Raises:
            StoreError: it cannot be written; those before are still there.
        """
        save_checkpoint(self.path, step, content)

    def clear_checkpoints(self, after: int = 0) -> None:
        """Remove the checkpoints of later steps: all where the run is done or begins anew, else those not used."""
        clear_checkpoints(self.path, after)

    def clear_leavings(self) -> None:
        """Remove checkpoints of a run that is done, left where the process ended just then; none of one under way."""
        if self.checkpoints() and not is_locked(self.rows_file):
            self.clear_checkpoints()

    def _recorded(self) -> RunRecord:
        return parsed_record(self.record_file, RunRecord, FORMAT, checked, "a run's record")

    def _logged(self) -> bytes:
        return read_if_there(self.rows_file)


@dataclass(frozen=True)
class ExperimentFolder:
    """The folder of an experiment's runs."""

    path: Path

    @property
    def picture_file(self) -> Path:
        """loss.png, where `gradlab plot` draws."""
        return self.path / "loss.png"

    @property
    def last_file(self) -> Path:
        """experiment.json."""
        return self.path / _LAST

    def run(self, mode: str, seed: int, identity: str) -> RunFolder:
        """Return the folder of a run, whether it is there or not."""
        ending = f"-seed{seed}-{identity}"
        return RunFolder(self.path / (_plain_name(mode, _LONGEST - len(ending)) + ending))

    def runs(self) -> list[RunFolder]:
        """Return the folders of runs in it, by name."""
        return [RunFolder(record.parent) for record in sorted(self.path.glob(f"*/{_RECORD}"))]

    def sweeps(self) -> list[SweepFolder]:
        """Return the sweeps in it, the one written last first."""
        return sweeps_in(self.path)

    def drop_if_empty(self) -> None:
        """Remove the folder if nothing stands in it."""
        with suppress(OSError):
            self.path.rmdir()

    def note_last(self, title: str, runs: Iterable[RunFolder]) -> None:
        """Note which runs stand for the experiment, for whoever plots it."""
        replace_json(self.last_file, {"format": FORMAT, "title": title, "runs": [run.path.name for run in runs]})

    def last(self) -> list[RunFolder]:
        """Return the runs of the last `gradlab run`, in its order, or all there are where that is not noted."""
        if not self.last_file.exists():
            return self.runs()
        content = read_json(self.last_file)
        names = content.get("runs") if isinstance(content, dict) else None
        if not isinstance(names, list) or not all(map(_is_name, names)):
            raise StoreError(f"{self.last_file} does not name runs; `gradlab run` writes it anew")
        return [run for run in (RunFolder(self.path / name) for name in names) if run.record_file.exists()]


def experiment_folder(out: Path, experiment: str) -> ExperimentFolder:
    """Return the folder of `experiment` under `out`, made if need be.

    Raises:
        StoreError: nothing can be written there.
    """
    folder = ExperimentFolder(out / experiment)
    make_folder(folder.path)
    return folder


def make_run(folder: RunFolder) -> None:
    """Make the folder of a run."""
    make_folder(folder.path)


def experiments(out: Path) -> list[ExperimentFolder]:
    """Return the experiments under `out`, the one run last first; none where there is no such folder.

    Raises:
        StoreError: `out` is a file.
    """
    if out.exists() and not out.is_dir():
        raise StoreError(f"{out} is not a folder")
    found = [ExperimentFolder(each) for each in out.iterdir() if each.is_dir()] if out.exists() else []
    return sorted(
        (each for each in found if each.last_file.exists() or each.runs() or each.sweeps()), key=_time, reverse=True
    )


def runs_at(path: Path) -> list[RunFolder]:
    """Return the runs that `path` stands for: a run, an experiment's last ones, or those of the newest experiment.

    Raises:
        StoreError: there is no run.
    """
    try:
        there = path.exists()
    except OSError as error:
        raise StoreError(f"{shortened(path)}: {error.strerror}; `gradlab list` shows what there is") from None
    if (path / _RECORD).exists():
        return [RunFolder(path)]
    here = ExperimentFolder(path)
    if here.last_file.exists() or here.runs():
        found = here.last()
    else:
        newest = experiments(path) if path.is_dir() else []
        found = newest[0].last() if newest else []
    if not found:
        what = "holds no run" if path.is_dir() else "is not a folder" if there else "does not exist"
        raise StoreError(f"{path} {what}; `gradlab run` makes one, `gradlab list` shows what there is")
    return found


def newest_sweep(path: Path) -> SweepFolder | None:
    """Return the sweep that `path` stands for, or None where it stands for runs: what was trained last.

    A sweep stands for itself; an experiment for its last sweep, unless runs were trained since; a folder of
    experiments for the newest of these.
    """
    if (itself := sweep_at(path)) or (path / _RECORD).exists() or not path.is_dir():
        return itself
    here = ExperimentFolder(path)
    if not here.last_file.exists() and not here.runs() and not here.sweeps():
        newest = experiments(path)
        return newest_sweep(newest[0].path) if newest else None
    sweep = next(iter(here.sweeps()), None)
    if sweep is None or not here.last_file.exists():
        return sweep if not here.runs() else None
    return sweep if _changed(sweep.record_file) > _changed(here.last_file) else None


def _time(folder: ExperimentFolder) -> float:
    files = [folder.last_file, *(sweep.record_file for sweep in folder.sweeps()[:1])]
    return max(map(_changed, files)) or _changed(folder.path)


def _changed(file: Path) -> float:
    """Return when the file was written last, 0 where there is none."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _is_name(name: object) -> bool:
    """Say whether it names something in a folder, and not that folder, the one above or what lies elsewhere."""
    return isinstance(name, str) and name not in ("", "..") and name == Path(name).name and "\0" not in name


def _plain_name(name: str, longest: int) -> str:
    """Return the name of a mode as a file system takes it: in one piece, visible, of `longest` bytes at most."""
    plain = "".join(char if char.isprintable() and char not in "/\\" else "_" for char in name.replace(":", "-"))
    if plain.startswith("."):
        plain = "_" + plain[1:]
    return plain.encode()[:longest].decode(errors="ignore")
