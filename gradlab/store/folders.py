"""The folders of runs and experiments, and the names of all files in them."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gradlab.errors import StoreError, shortened
from gradlab.store.checkpoints import checkpoints, clear_checkpoints, save_checkpoint
from gradlab.store.files import changed, make_folder, replace_json
from gradlab.store.groups import Asked, Group, asked_in, newest_group
from gradlab.store.locks import is_locked
from gradlab.store.record_files import being_written, current_record, now, parsed_record, read_if_there, write_record
from gradlab.store.row_log import RowLog, Rows, rows_in, whole_rows
from gradlab.store.run_record import FORMAT, RunRecord, checked
from gradlab.store.sweeps import SweepFolder, sweep_at, sweeps_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RUNS = Path("runs")
_RECORD, _ROWS, _ASKED = "run.json", "metrics.jsonl", "experiment.json"
_MOST_ASKED = 1000  # runs in experiment.json
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
    def asked_file(self) -> Path:
        """experiment.json."""
        return self.path / _ASKED

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

    def note_asked(self, runs: Sequence[RunFolder], modes: list[str], *, match_lr: bool) -> None:
        """Note that a command asked for runs that are done: it starts none, and yet theirs is the group to show.

        Args:
            runs: these.
            modes: of the command, in its order.
            match_lr: of the command.

        Raises:
            StoreError: it cannot be written.
        """
        names = [run.path.name for run in runs[:_MOST_ASKED]]
        replace_json(self.asked_file, Asked(names, now(), modes, match_lr)._asdict() | {"format": FORMAT})

    def group(self, among: Iterable[RunFolder] = ()) -> Group:
        """Return the group of the run that was started or asked for last; where any are given, of one of these.

        Raises:
            StoreError: a record in the folder cannot be read.
        """
        return newest_group(self.runs(), asked_in(self.asked_file), {run.path for run in among})

    def written(self) -> float:
        """Return when anything in it was written that says what was trained or asked for; 0 where no run is there."""
        records = [run.record_file for run in self.runs()] + [sweep.record_file for sweep in self.sweeps()]
        return max(map(changed, [*records, self.asked_file])) if records else 0.0


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
    times = {each: written for each in found if (written := each.written())}
    return sorted(times, key=lambda each: times[each], reverse=True)


def group_at(path: Path) -> Group:
    """Return the runs that `path` stands for: a run, an experiment's newest group, or that of the newest experiment.

    Raises:
        StoreError: there is no run, or one in the experiment's folder cannot be read.
    """
    try:
        there = path.exists()
    except OSError as error:
        raise StoreError(f"{shortened(path)}: {error.strerror}; `gradlab list` shows what there is") from None
    if (path / _RECORD).exists():
        return Group([RunFolder(path)])
    found = ExperimentFolder(path).group()
    if not found.runs and path.is_dir() and (newest := experiments(path)):
        found = newest[0].group()
    if not found.runs:
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
    runs, sweep = here.runs(), next(iter(here.sweeps()), None)
    if not runs and not sweep:
        newest = experiments(path)
        return newest_sweep(newest[0].path) if newest else None
    last_of_runs = max(map(changed, [*(run.record_file for run in runs), here.asked_file]))
    return sweep if sweep and changed(sweep.record_file) >= last_of_runs else None


def _plain_name(name: str, longest: int) -> str:
    """Return the name of a mode as a file system takes it: in one piece, visible, of `longest` bytes at most."""
    plain = "".join(char if char.isprintable() and char not in "/\\" else "_" for char in name.replace(":", "-"))
    if plain.startswith("."):
        plain = "_" + plain[1:]
    return plain.encode()[:longest].decode(errors="ignore")
