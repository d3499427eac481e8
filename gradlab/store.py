"""Run folders: the only file that knows a path or a file format.

runs/<experiment>/experiment.json                            which runs stand for it: those of the last settings
runs/<experiment>/<mode>-seed<S>-<identity>/run.json         what the run is; replaced atomically
runs/<experiment>/<mode>-seed<S>-<identity>/metrics.jsonl    one line a row, at the latest half a second old
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import tempfile
import threading
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gradlab.errors import StoreError, shortened
from gradlab.rows import Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

FORMAT = 1
WRITE_EVERY = 0.5  # seconds
RUNS = Path("runs")
_RECORD, _ROWS, _LAST = "run.json", "metrics.jsonl", "experiment.json"


@dataclass(frozen=True)
class RunRecord:
    """What a run is: the content of run.json."""

    experiment: str
    mode: str
    seed: int
    identity: str
    settings: dict[str, Any]  # all that decides the rows, in canonical form
    status: str  # running, done, interrupted, failed
    title: str = ""
    weights: str = ""  # SHA-256 of what it started from
    first_batch: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    started: str = ""  # UTC, ISO 8601
    seconds: float | None = None  # spent in the training loop
    rows: int | None = None  # once it is done
    quadratic: dict[str, Any] | None = None  # what theory needs of its loss; {} if that is no quadratic, None: unknown
    error: str = ""  # once it has failed
    format: int = FORMAT


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
        _replace(self.record_file, asdict(record))

    def read(self) -> RunRecord:
        """Return the record.

        Raises:
            StoreError: there is none, or it is not one that this version reads.
        """
        content = _read_json(self.record_file)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            found = content.get("format") if isinstance(content, dict) else None
            raise StoreError(f"{self.record_file} has format {found!r}; this version of gradlab reads format {FORMAT}")
        known = {each.name for each in fields(RunRecord)}
        try:
            return _checked(RunRecord(**{key: value for key, value in content.items() if key in known}))
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
        text = _read_text(self.rows_file) if self.rows_file.exists() else ""
        rows = []
        for nth, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1):
            try:
                row = json.loads(line)
                rows.append(_row_of(row))
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
                raise StoreError(f"{self.rows_file}:{nth}: not a row: {shortened(line)}") from None
        return rows


class RowLog:
    """Appends rows to the file of a run, in whole lines and at the latest half a second after they were logged.

    A thread of its own writes them: a system call a row costs a small model several percent of its step.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._pending: deque[Row] = deque()  # appended to by one thread and emptied by another, both atomically
        self._fault: OSError | None = None
        self._writing, self._closed = threading.Lock(), threading.Event()
        try:
            self._handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            _lock(self._handle)
            os.ftruncate(self._handle, 0)
        except BlockingIOError:
            os.close(self._handle)
            raise StoreError(f"{file} is being written by another gradlab") from None
        except OSError as error:
            raise _unwritable(file, error) from None
        self._whole = 0  # bytes of whole lines written
        self._writer = threading.Thread(target=self._write_now_and_then, name="rows", daemon=True)
        self._writer.start()

    def append(self, row: Row) -> None:
        """Log one row.

        Raises:
            StoreError: a row before it could not be written: the disk is full or gone.
        """
        if self._fault:
            raise _unwritable(self.file, self._fault)
        self._pending.append(row)

    def flush(self) -> None:
        """Write what is logged, in whole lines.

        Raises:
            OSError: the disk does not take it; nothing is written any more.
        """
        with self._writing:
            if self._fault:
                raise self._fault
            lines = []
            while self._pending:
                lines.append(_row_line(self._pending.popleft()))
            content = left = "".join(lines).encode()
            try:
                while left:
                    left = left[os.write(self._handle, left) :]
            except OSError as fault:
                self._fault = fault
                with suppress(OSError):
                    os.ftruncate(self._handle, self._whole)  # no torn line
                raise
            self._whole += len(content)

    def finish(self) -> None:
        """Write what is logged, down to the disk.

        Raises:
            StoreError: it cannot be written.
        """
        try:
            self.flush()
            os.fsync(self._handle)
        except OSError as error:
            raise _unwritable(self.file, error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._writer.join()
        try:
            self.finish()
        except StoreError:
            if kind is None:
                raise
        finally:
            os.close(self._handle)

    def _write_now_and_then(self) -> None:
        while not self._closed.wait(WRITE_EVERY):
            try:
                self.flush()
            except OSError:
                return  # told at the next row


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
        _replace(self.last_file, {"format": FORMAT, "title": title, "runs": [run.path.name for run in runs]})

    def last(self) -> list[RunFolder]:
        """Return the runs of the last `gradlab run`, in its order, or all there are where that is not noted."""
        if not self.last_file.exists():
            return self.runs()
        content = _read_json(self.last_file)
        names = content.get("runs") if isinstance(content, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, str) and name == Path(name).name for name in names):
            raise StoreError(f"{self.last_file} does not name runs; `gradlab run` writes it anew")
        return [run for run in (RunFolder(self.path / name) for name in names) if run.record_file.exists()]


def _lock(handle: int) -> None:
    """Keep other processes from writing the file; the lock goes with the process, however that ends."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def experiment_folder(out: Path, experiment: str) -> ExperimentFolder:
    """Return the folder of `experiment` under `out`, made if need be.

    Raises:
        StoreError: nothing can be written there.
    """
    folder = ExperimentFolder(out / experiment)
    _make(folder.path)
    return folder


def make_run(folder: RunFolder) -> None:
    """Make the folder of a run."""
    _make(folder.path)


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


def csv_of(runs: Iterable[RunFolder]) -> Iterator[str]:
    """Yield the lines of a CSV file of all rows; floats are written so that they round-trip."""
    yield _csv_line(["experiment", "mode", "seed", *Row._fields])
    for run in runs:
        record = run.read()
        for row in run.rows():
            yield _csv_line([record.experiment, record.mode, record.seed, *row[:3], repr(row.loss), repr(row.items)])


def strict_json(value: object, *, indent: int | None = None, ascii_only: bool = False) -> str:
    """Return JSON without the tokens NaN and Infinity: a number that is not finite is "nan", "inf" or "-inf"."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=ascii_only, allow_nan=False)


def write_bytes(file: Path, content: bytes) -> None:
    """Write a file, whole or not at all.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        new = file.with_name(f".{file.name}.{os.getpid()}.new")
    except ValueError:
        raise StoreError(f"{file} cannot be written: that is not the name of a file") from None
    try:
        with new.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        new.replace(file)
    except OSError as error:
        raise _unwritable(file, error) from None
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


def _checked(record: RunRecord) -> RunRecord:
    """Check the types of what others rely on: the file may have been edited by hand."""
    kinds: dict[str, Any] = {"seed": int, "settings": dict, "versions": dict}
    kinds |= {"seconds": float | int | None, "rows": int | None, "quadratic": dict | None}
    for name in ("experiment", "mode", "status", "title", "error", "started"):
        kinds[name] = str
    for name, kind in kinds.items():
        if not isinstance(getattr(record, name), kind):
            raise TypeError(f"{name} is {shortened(repr(getattr(record, name)))}")
    if record.quadratic and not _is_quadratic(record.quadratic):
        raise TypeError(f"quadratic is {shortened(repr(record.quadratic))}")
    return record


def _is_quadratic(content: dict[str, Any]) -> bool:
    """Say whether these are curvatures above 0, as many amplitudes and a floor, none beyond what theory can square."""
    curvatures, amplitudes = content.get("curvatures"), content.get("amplitudes")
    if not isinstance(curvatures, list) or not isinstance(amplitudes, list) or len(curvatures) != len(amplitudes):
        return False
    numbers = [*curvatures, *amplitudes, content.get("floor")]
    return (
        all(isinstance(each, float | int) and abs(each) < 1e100 for each in numbers) and min(curvatures, default=0) > 0
    )


def _row_line(row: Row) -> str:
    loss = row.loss if math.isfinite(row.loss) else f'"{row.loss!r}"'
    items = f',"items":{row.items!r}' if row.items != 1 else ""
    return f'{{"step":{row.step},"update":{row.update},"epoch":{row.epoch},"loss":{loss}{items}}}\n'


def _row_of(line: dict[str, Any]) -> Row:
    row = Row(int(line["step"]), int(line["update"]), int(line["epoch"]), float(line["loss"]))
    items = line.get("items", 1)
    if isinstance(items, bool) or not isinstance(items, int | float) or not 0 < items < math.inf:
        raise ValueError("a loss is the mean of something")
    return row._replace(items=items)


def _csv_line(values: list[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _time(folder: ExperimentFolder) -> float:
    file = folder.last_file if folder.last_file.exists() else folder.path
    return file.stat().st_mtime


def _make(folder: Path) -> None:
    """Make a folder and see that it can be written to, before any work is put into what shall stand there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from None


def _replace(file: Path, content: object) -> None:
    write_bytes(file, (strict_json(content, indent=2) + "\n").encode())


def _read_text(file: Path) -> str:
    try:
        return file.read_bytes().decode()
    except OSError as error:
        raise StoreError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise StoreError(f"{file} is not UTF-8 text, from byte {error.start} on") from None


def _read_json(file: Path) -> object:
    try:
        return json.loads(_read_text(file))
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{file} is not JSON: {shortened(error, 120)}") from None


def _unwritable(path: Path, error: OSError) -> StoreError:
    why = "there is no such folder" if isinstance(error, FileNotFoundError) else error.strerror or error
    return StoreError(f"{path} cannot be written: {why}")
