"""The folders of runs and experiments, and the names of all files in them."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from gradlab.errors import StoreError, shortened
from gradlab.store.files import make_folder, read_json, read_text, replace_json
from gradlab.store.records import FORMAT, RunRecord, checked
from gradlab.store.row_log import RowLog, row_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradlab.rows import Row

RUNS = Path("runs")
_RECORD, _ROWS, _LAST = "run.json", "metrics.jsonl", "experiment.json"


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
        """Replace the record atomically."""
        replace_json(self.record_file, asdict(record))

    def read(self) -> RunRecord:
        """Return the record.

        Raises:
            StoreError: there is none, or it is not one that this version reads.
        """
        content = read_json(self.record_file)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            found = content.get("format") if isinstance(content, dict) else None
            raise StoreError(f"{self.record_file} has format {found!r}; this version of gradlab reads format {FORMAT}")
        known = {each.name for each in fields(RunRecord)}
        try:
            return checked(RunRecord(**{key: value for key, value in content.items() if key in known}))
        except (TypeError, ValueError) as error:
            raise StoreError(f"{self.record_file} is not a run's record: {shortened(error, 120)}") from None

    def log(self) -> RowLog:
        """Begin the rows anew, and return what appends them."""
        return RowLog(self.rows_file)

    def rows(self) -> list[Row]:
        """Return the rows logged so far, none where none is; a last line without its end is left out.

        Raises:
            StoreError: a line is not a row; its number is named.
        """
        text = read_text(self.rows_file) if self.rows_file.exists() else ""
        rows = []
        for nth, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1):
            try:
                row = json.loads(line)
                rows.append(row_of(row))
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
                raise StoreError(f"{self.rows_file}:{nth}: not a row: {shortened(line)}") from None
        return rows


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
        return RunFolder(self.path / f"{mode.replace(':', '-')}-seed{seed}-{identity}")

    def runs(self) -> list[RunFolder]:
        """Return the folders of runs in it, by name."""
        return [RunFolder(record.parent) for record in sorted(self.path.glob(f"*/{_RECORD}"))]

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
        if not isinstance(names, list) or not all(isinstance(name, str) and name == Path(name).name for name in names):
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
    return sorted((each for each in found if each.last_file.exists() or each.runs()), key=_time, reverse=True)


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


def _time(folder: ExperimentFolder) -> float:
    file = folder.last_file if folder.last_file.exists() else folder.path
    return file.stat().st_mtime
