"""The store: rows and records come back exactly, files are whole at every moment, and faults are told in a line."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradlab import store
from gradlab.analysis.groups import RunGroup, group_at, newest_group
from gradlab.errors import StoreError
from gradlab.rows import Geometry, Row
from gradlab.store import ExperimentFolder, RowLog, RunFolder, RunRecord
from gradlab.store.row_log import row_line

if TYPE_CHECKING:
    from collections.abc import Callable

RECORD = RunRecord(
    experiment="line",
    mode="zero_grad",
    seed=1,
    identity="0123456789ab",
    settings={"mode": "zero_grad", "seed": 1, "optimizer": {"name": "SGD", "lr": 0.1}},
    status="done",
    title="A line",
    versions={"torch": "2"},
    started="2026-01-01T00:00:00+00:00",
    seconds=0.25,
    rows=2,
)
QUADRATIC: dict[str, object] = {"curvatures": [0.5, 2], "amplitudes": [0.0, -3.0], "floor": 0.25}
ROWS = [Row(0, 0, 0, 1.5), Row(1, 1, 0, 0.1), Row(2, 2, 1, math.inf)]

counts = st.integers(0, 2**62)
items = st.one_of(st.just(1), st.integers(1, 10**6), st.floats(1e-6, 1e6))
norms = st.floats(0) | st.just(math.nan)
geometries = st.builds(Geometry, norms, norms, st.floats(-1, 1) | st.just(math.nan), norms)
losses = st.floats(allow_subnormal=True)
rows_ = st.lists(st.builds(Row, counts, counts, counts, losses, items, st.none() | geometries), max_size=8)


def made(name: str = "run") -> RunFolder:
    folder = RunFolder(Path(name))
    folder.path.mkdir(parents=True, exist_ok=True)
    return folder


def logged(rows: list[Row], name: str = "run") -> RunFolder:
    folder = made(name)
    with folder.log() as log:
        for row in rows:
            log.append(row)
    return folder


def kept(experiment: str, *modes: str) -> ExperimentFolder:
    """Make an experiment under `runs` with a run of each mode."""
    folder = store.experiment_folder(Path("runs"), experiment)
    runs = [folder.run(mode, 1, "0123456789ab") for mode in modes]
    for mode, run in zip(modes, runs, strict=True):
        run.make()
        run.write(replace(RECORD, experiment=experiment, mode=mode, modes=list(modes)))
    return folder


def log_then(log: RowLog, error: type[BaseException]) -> None:
    with log:
        log.append(ROWS[0])
        raise error


def log_all(log: RowLog, rows: list[Row]) -> None:
    with log:
        for row in rows:
            log.append(row)


def log_for(log: RowLog, seconds: float, then: Callable[[], object]) -> None:
    """Log a row a hundred times a second, and `then` end the log."""
    due = time.monotonic() + seconds
    with log:
        while time.monotonic() < due:
            log.append(ROWS[0])
            time.sleep(0.01)
        then()


def flush_often(log: RowLog) -> None:
    for _ in range(200):
        log.flush()


def exact(rows: list[Row]) -> list[tuple[object, ...]]:
    """Return the rows so that equal means equal, nan and the sign of 0 included."""
    return [(*row[:3], row.loss.hex(), row.items, *(each.hex() for each in row.geometry or ())) for row in rows]


NO_QUADRATICS: list[dict[str, object]] = [
    {"amplitudes": [1.0], "floor": 0.0},
    {"curvatures": [1.0], "floor": 0.0},
    {"curvatures": [1.0], "amplitudes": [1.0]},
    {"curvatures": 1.0, "amplitudes": 1.0, "floor": 0.0},
    {"curvatures": [], "amplitudes": [], "floor": 0.0},
    {"curvatures": [1.0], "amplitudes": [1.0, 1.0], "floor": 0.0},
    {"curvatures": [0.0], "amplitudes": [1.0], "floor": 0.0},
    {"curvatures": ["inf"], "amplitudes": [1.0], "floor": 0.0},
    {"curvatures": [1e300], "amplitudes": [1.0], "floor": 0.0},
    {"curvatures": [1.0], "amplitudes": [None], "floor": 0.0},
    {"curvatures": [1.0], "amplitudes": {"0": 1.0}, "floor": 0.0},
    {"curvatures": [1.0], "amplitudes": [1.0], "floor": 10**400},
]


def no_such_token(token: str) -> NoReturn:
    raise AssertionError(f"{token} is not JSON")


GEOMETRY = {"fresh_norm": 1.5, "gradient_norm": 2.0, "cosine": -0.25, "update_norm": 0.1}


def measured_line(**changed: object) -> str:
    """Return the line of a row with geometry, with these values."""
    values = "".join(f',"{name}":{value}' for name, value in (GEOMETRY | changed).items())
    return f'{{"step":1,"update":1,"epoch":0,"loss":0.1{values}}}'


# Rows


def test_a_row_with_geometry_is_a_line_with_its_keys() -> None:
    row = Row(1, 1, 0, 0.1, 1, Geometry(**GEOMETRY))
    assert row_line(row) == measured_line() + "\n"
    assert logged([ROWS[0], row]).rows().rows == [ROWS[0], row]


@given(rows_)
def test_rows_come_back_exactly(rows: list[Row]) -> None:
    assert exact(logged(rows).rows().rows) == exact(rows)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf, 5e-324, -0.0, 0.1, 1.7976931348623157e308, 1e22])
def test_a_loss_comes_back_exactly(loss: float) -> None:
    assert exact(logged([Row(0, 0, 0, loss)]).rows().rows) == exact([Row(0, 0, 0, loss)])


@given(rows_)
def test_each_line_of_rows_is_strict_json(rows: list[Row]) -> None:
    lines = logged(rows).rows_file.read_text().splitlines()
    assert len(lines) == len(rows)
    for line in lines:
        found = set(json.loads(line, parse_constant=no_such_token))
        assert found - {"items", *Geometry._fields} == {"step", "update", "epoch", "loss"}


def test_a_row_is_soon_in_the_file_as_a_whole_line() -> None:
    folder = made()
    with folder.log() as log:
        for nth in (1, 2):
            log.append(ROWS[nth - 1])
            due = time.monotonic() + 5  # the claim is a second; a loaded machine may sleep through it
            while (content := folder.rows_file.read_bytes()).count(b"\n") < nth:
                assert content == b"" or content.endswith(b"\n")
                assert time.monotonic() < due
                time.sleep(0.01)
            assert folder.rows().rows == ROWS[:nth]


def test_a_flush_writes_what_is_logged_at_once_and_once() -> None:
    folder = made()
    with folder.log() as log:
        for nth in (1, 2, 3):
            log.append(ROWS[nth - 1])
            log.flush()
            log.flush()
            assert folder.rows().rows == ROWS[:nth]


def test_rows_are_written_when_what_logs_them_is_interrupted() -> None:
    folder = made()
    with pytest.raises(KeyboardInterrupt):
        log_then(folder.log(), KeyboardInterrupt)
    assert folder.rows().rows == ROWS[:1]


def test_rows_flushed_by_two_threads_are_in_their_order() -> None:
    folder = made()
    rows = [Row(step, step, 0, float(step)) for step in range(2000)]
    with folder.log() as log:
        other = threading.Thread(target=flush_often, args=[log])
        other.start()
        for row in rows:
            log.append(row)
            if row.step % 50 == 0:
                log.flush()
        other.join()
    assert folder.rows().rows == rows


def test_a_row_written_byte_by_byte_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, content: write(handle, content[:1]))
    assert logged(ROWS).rows().rows == ROWS


def test_a_torn_last_line_is_left_out() -> None:
    folder = logged(ROWS)
    whole = folder.rows_file.read_bytes()
    begin = whole[:-1].rindex(b"\n") + 1
    assert whole[begin:].startswith(b'{"step"')
    for end in range(begin, len(whole)):
        folder.rows_file.write_bytes(whole[:end])
        assert folder.rows().rows == ROWS[:-1]


def test_a_file_torn_in_its_first_line_has_no_rows() -> None:
    folder = logged(ROWS)
    folder.rows_file.write_bytes(folder.rows_file.read_bytes()[:10])
    assert folder.rows().rows == []


def test_a_run_without_a_file_of_rows_has_none() -> None:
    assert made().rows().rows == []


def test_logging_begins_anew() -> None:
    logged(ROWS)
    assert logged(ROWS[:1]).rows().rows == ROWS[:1]


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "}{",
        "null",
        "[]",
        "3",
        '"loss"',
        "{}",
        '{"step":1,"update":1,"epoch":0}',
        '{"step":"one","update":1,"epoch":0,"loss":1}',
        '{"step":null,"update":1,"epoch":0,"loss":1}',
        '{"step":1,"update":1,"epoch":0,"loss":"high"}',
        '{"step":1,"update":1,"epoch":0,"loss":[1]}',
        '{"step":1,"update":1,"epoch":0,"loss":1,"items":0}',
        '{"step":1,"update":1,"epoch":0,"loss":1,"items":"many"}',
        '{"step":1,"update":1,"epo',
        '{"step":1e999,"update":1,"epoch":0,"loss":1}',
        f'{{"step":1,"update":1,"epoch":0,"loss":{"9" * 400}}}',
        f'{{"step":{"9" * 5000},"update":1,"epoch":0,"loss":1}}',
        "[" * 100_000,
        "\x00\x00\x00",
        '{"step":"1","update":1,"epoch":0,"loss":1}',
        '{"step":true,"update":1,"epoch":0,"loss":1}',
        '{"step":1.0,"update":1,"epoch":0,"loss":1}',
        '{"step":-1,"update":1,"epoch":0,"loss":1}',
        '{"step":1,"update":1,"epoch":0,"loss":NaN}',
        '{"step":1,"update":1,"epoch":0,"loss":1e999}',
        '{"step":1,"update":1,"epoch":0,"loss":"1"}',
        '{"step":1,"update":1,"epoch":0,"loss":true}',
        '{"step":1,"update":1,"epoch":0,"loss":1,"cosine":1}',
        measured_line(cosine=1.1),
        measured_line(cosine=-1.1),
        measured_line(cosine='"high"'),
        measured_line(fresh_norm=-1.0),
        measured_line(gradient_norm="NaN"),
        measured_line(update_norm="true"),
    ],
    ids=range(35),
)
def test_a_damaged_line_is_named_and_the_others_are_used(damaged: str) -> None:
    folder = logged(ROWS)
    lines = folder.rows_file.read_text().splitlines()
    lines[1] = damaged
    folder.rows_file.write_text("\n".join(lines) + "\n")
    rows, (told,), _ = folder.rows()
    assert rows == [ROWS[0], ROWS[2]]
    assert told.startswith("run/metrics.jsonl:2: not a row")
    assert "\n" not in told
    assert len(told) < 200


STEPS = [Row(step, step, 0, 1.0 + step) for step in range(5)]


@pytest.mark.parametrize("keep", range(6))
def test_a_log_that_keeps_rows_continues_after_them(keep: int) -> None:
    whole = logged(STEPS, "whole").rows_file.read_bytes()
    folder = logged(STEPS)
    with folder.log(keep=keep) as log:
        assert folder.rows().rows == STEPS[:keep]
        for row in STEPS[keep:]:
            log.append(row)
    assert folder.rows_file.read_bytes() == whole
    assert log.sha256 == hashlib.sha256(whole).hexdigest()


@pytest.mark.parametrize("damaged", [b"}{\n", b'{"step":3', b"\0\0\0", b'{"step":7,"update":3,"epoch":0,"loss":1}\n'])
def test_rows_after_the_kept_ones_are_cut_off(damaged: bytes) -> None:
    folder = logged(STEPS)
    lines = folder.rows_file.read_bytes().splitlines(keepends=True)
    folder.rows_file.write_bytes(b"".join(lines[:3]) + damaged + b"".join(lines[4:]))
    assert folder.whole_rows() == 3
    before = folder.rows_file.read_bytes()
    with pytest.raises(StoreError, match="begins with 3 intact rows, but 4 are needed"):
        folder.log(keep=4)
    assert folder.rows_file.read_bytes() == before
    with folder.log(keep=3):
        pass
    assert folder.rows().rows == STEPS[:3]


def test_a_sync_leaves_all_rows_in_the_file_and_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    folder, synced, fsync = made(), [], os.fsync

    def noted(handle: int) -> None:
        synced.append(folder.rows().rows)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    with folder.log() as log:
        log.append(ROWS[0])
        log.sync()
        assert synced == [ROWS[:1]]


def test_a_full_disk_keeps_whole_rows_and_no_torn_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write, calls = os.write, count()

    def short(handle: int, content: bytes) -> int:
        if next(calls):
            full(handle, content)
        return write(handle, content[: content.index(b"\n") + 10])

    folder = made()
    log = folder.log()
    monkeypatch.setattr(os, "write", short)
    with pytest.raises(StoreError, match=DISK_FULL):
        log_all(log, ROWS)
    assert folder.rows_file.read_bytes() == row_line(ROWS[0]).encode()


def test_rows_of_an_interrupted_flush_are_written_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = os.write

    def interrupted(handle: int, content: bytes) -> NoReturn:
        write(handle, content[:20])
        raise KeyboardInterrupt

    folder = made()
    with folder.log() as log:
        for row in ROWS:
            log.append(row)
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", interrupted)
            with pytest.raises(KeyboardInterrupt):
                log.flush()
        assert folder.rows().rows == []
    assert folder.rows().rows == ROWS


def test_a_second_log_is_refused_and_names_the_writer() -> None:
    folder = made()
    with folder.log():
        folder.write(replace(RECORD, status="running"))
        with pytest.raises(StoreError, match=rf"another gradlab: process {os.getpid()} on .+, since 2026-01-01T"):
            folder.log()
        assert folder.read().status == "running"
    assert folder.read().status == "interrupted"


def test_a_write_removes_what_killed_writers_left() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    others = {f".x.csv.{os.getppid()}.new", ".x.csv.new", f".y.csv.{process.pid}.new", ".x.csv.one.new"}
    for name in [*others, f".x.csv.{process.pid}.new"]:
        Path(name).touch()
    store.write_bytes(Path("x.csv"), b"x")
    assert {each.name for each in Path().iterdir()} == others | {"x.csv"}


def test_an_unfinished_copy_is_not_written_through_a_link() -> None:
    Path("victim").write_text("as it was")
    Path(f".x.csv.{os.getpid()}.new").symlink_to("victim")
    store.write_bytes(Path("x.csv"), b"x")
    assert Path("victim").read_text() == "as it was"
    assert Path("x.csv").read_bytes() == b"x"


DISK_FULL = r"metrics\.jsonl cannot be written: No space left on device"


def full(_handle: int, _content: bytes) -> NoReturn:
    raise OSError(28, "No space left on device")


def test_a_full_disk_is_an_error_when_the_log_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = made().log()
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match=DISK_FULL), log:
        log.append(ROWS[0])


def test_rows_that_the_disk_does_not_take_end_a_long_run(monkeypatch: pytest.MonkeyPatch) -> None:
    log = made().log()
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match=DISK_FULL):
        log_for(log, seconds=10, then=monkeypatch.undo)


def test_a_full_disk_does_not_hide_what_else_went_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    log = made().log()
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(KeyboardInterrupt):
        log_then(log, KeyboardInterrupt)


def test_a_log_where_no_file_can_be_is_an_error() -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        RowLog(Path("nowhere") / "metrics.jsonl")


# Records


def test_a_record_comes_back_equal() -> None:
    folder = made()
    folder.write(RECORD)
    assert folder.read() == RECORD


@given(st.text(max_size=20), st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3))
def test_any_text_in_a_record_comes_back(title: str, settings: dict[str, object]) -> None:
    folder = made()
    record = replace(RECORD, title=title, settings=settings)
    folder.write(record)
    assert folder.read() == record


def test_a_record_is_strict_json_whatever_numbers_it_holds() -> None:
    folder = made()
    folder.write(replace(RECORD, settings={"lr": math.inf, "deep": [{"beta": math.nan}, (-math.inf,)]}))
    content = json.loads(folder.record_file.read_text(), parse_constant=no_such_token)
    assert content["settings"] == {"lr": "inf", "deep": [{"beta": "nan"}, ["-inf"]]}


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_a_record_that_cannot_be_replaced_stays_as_it_was(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> NoReturn:
        raise OSError(5, "Input/output error")

    folder = made()
    folder.write(RECORD)
    monkeypatch.setattr(step, broken)
    with pytest.raises(StoreError, match=r"run\.json cannot be written: Input/output error"):
        folder.write(replace(RECORD, status="failed"))
    assert folder.read() == RECORD
    assert [file.name for file in folder.path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_an_interrupted_write_leaves_the_whole_record_alone(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    folder = made()
    folder.write(RECORD)
    monkeypatch.setattr(step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        folder.write(replace(RECORD, status="failed"))
    assert folder.read() == RECORD
    assert [file.name for file in folder.path.iterdir()] == ["run.json"]


def test_a_record_is_on_the_disk_before_it_takes_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def noted_sync(handle: int) -> None:
        order.append("fsync")
        fsync(handle)

    def noted_rename(self: Path, target: Path) -> Path:
        order.append(f"replace with {len(self.read_bytes())} bytes")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_rename)
    folder = made()
    folder.write(RECORD)
    assert order == ["fsync", f"replace with {folder.record_file.stat().st_size} bytes", "fsync"]


@pytest.mark.parametrize("known", [None, {}, QUADRATIC], ids=["unknown", "none", "one"])
def test_what_theory_needs_of_the_loss_comes_back(known: dict[str, object] | None) -> None:
    folder = made()
    folder.write(replace(RECORD, quadratic=known))
    assert folder.read().quadratic == known


def test_a_record_of_before_theory_was_drawn_is_read() -> None:
    folder = made()
    folder.write(replace(RECORD, quadratic=QUADRATIC))
    _edited(quadratic="(removed)")(folder)
    assert folder.read() == RECORD


def test_keys_of_a_later_version_are_passed_over() -> None:
    folder = made()
    folder.write(RECORD)
    content = json.loads(folder.record_file.read_text())
    folder.record_file.write_text(json.dumps(content | {"mood": "good"}))
    assert folder.read() == RECORD


def _not_json(folder: RunFolder) -> None:
    folder.record_file.write_text("{half")


def _not_text(folder: RunFolder) -> None:
    folder.record_file.write_bytes(b"\xff\xfe")


def _empty(folder: RunFolder) -> None:
    folder.record_file.write_text("")


def _no_object(folder: RunFolder) -> None:
    folder.record_file.write_text("[1, 2]")


def _nested(folder: RunFolder) -> None:
    folder.record_file.write_text("[" * 100_000)


def _endless_number(folder: RunFolder) -> None:
    folder.record_file.write_text(f'{{"seed": {"9" * 5000}}}')


def _gone(folder: RunFolder) -> None:
    folder.record_file.unlink()


def _a_folder(folder: RunFolder) -> None:
    folder.record_file.unlink()
    folder.record_file.mkdir()


def _edited(**changes: object) -> Callable[[RunFolder], None]:
    def edit(folder: RunFolder) -> None:
        content = json.loads(folder.record_file.read_text()) | changes
        kept_keys = {key: value for key, value in content.items() if value != "(removed)"}
        folder.record_file.write_text(json.dumps(kept_keys))

    edit.__name__ = ",".join(f"{key}={value!r}" for key, value in changes.items())
    return edit


@pytest.mark.parametrize(
    "damage",
    [
        _not_json, _not_text, _empty, _no_object, _nested, _endless_number, _gone, _a_folder,
        _edited(format=2), _edited(format="(removed)"), _edited(format=None),
        _edited(seed="one"), _edited(seed=None), _edited(seed=1.5), _edited(seed="(removed)"),
        _edited(mode=3), _edited(mode="(removed)"), _edited(experiment=None), _edited(status=[]), _edited(title=1),
        _edited(settings=[]), _edited(settings="SGD"), _edited(settings="(removed)"), _edited(versions=["torch"]),
        _edited(seconds="long"), _edited(started=0), _edited(error=None),
        _edited(modes="zero_grad"), _edited(modes=[0]), _edited(match_lr="no"),
        _edited(rows="many"), _edited(rows=[1]), _edited(quadratic=[]), _edited(quadratic="yes"),
        *(_edited(quadratic=each) for each in NO_QUADRATICS),
    ],
    ids=lambda damage: damage.__name__,
)  # fmt: skip
def test_a_damaged_record_is_an_error_of_one_line(
    damage: Callable[[RunFolder], None],
) -> None:
    folder = made()
    folder.write(RECORD)
    damage(folder)
    with pytest.raises(StoreError, match=r"run\.json") as caught:
        folder.read()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("change", "fault"),
    [({"seed": "one"}, "seed is 'one'"), ({"seed": "(removed)"}, "seed is missing"), ({"modes": [0]}, "modes.0 is 0")],
    ids=str,
)
def test_the_error_of_a_damaged_record_names_the_key(change: dict[str, object], fault: str) -> None:
    folder = made()
    folder.write(RECORD)
    _edited(**change)(folder)
    with pytest.raises(StoreError, match=rf"run\.json is not a run's record: {fault}$"):
        folder.read()


def test_a_format_of_a_later_version_says_which_one_is_read() -> None:
    folder = made()
    folder.write(replace(RECORD, format=7))
    with pytest.raises(StoreError, match="has format 7; this version of gradlab reads format 1"):
        folder.read()


# Files and folders


@pytest.mark.parametrize("name", ["file/x.csv", "missing/x.csv", ".", "/", "folder", f"{'n' * 250}.csv"])
def test_a_file_that_cannot_be_written_is_an_error_that_names_it(name: str) -> None:
    Path("file").touch()
    Path("folder").mkdir()
    with pytest.raises(StoreError, match="cannot be written"):
        store.write_bytes(Path(name), b"content")
    assert sorted(each.name for each in Path().iterdir()) == ["file", "folder"]


def test_a_written_file_holds_the_bytes_and_is_alone() -> None:
    store.write_bytes(Path("x.csv"), b"old")
    store.write_bytes(Path("x.csv"), b"new")
    assert {each.name: each.read_bytes() for each in Path().iterdir()} == {"x.csv": b"new"}


def test_a_folder_of_runs_where_a_file_is_cannot_be_made() -> None:
    Path("runs").touch()
    with pytest.raises(StoreError, match=r"runs/line cannot be written"):
        store.experiment_folder(Path("runs"), "line")


def test_a_run_where_a_file_is_cannot_be_made() -> None:
    folder = store.experiment_folder(Path("runs"), "line").run("zero_grad", 1, "abc")
    folder.path.touch()
    with pytest.raises(StoreError, match=r"zero_grad-seed1-abc cannot be written"):
        folder.make()


def test_making_a_folder_leaves_nothing_in_it() -> None:
    assert list(store.experiment_folder(Path("runs"), "line").path.iterdir()) == []


def test_a_run_folder_is_named_by_mode_seed_and_identity() -> None:
    assert ExperimentFolder(Path("e")).run("accumulate:4:sum", 7, "abc").path == Path("e/accumulate-4-sum-seed7-abc")


# Finding runs


def test_runs_at_a_run_folder_is_that_run() -> None:
    run = kept("line", "zero_grad", "halve_grad").runs()[0]
    assert group_at(run.path) == RunGroup([run])


def test_an_experiment_s_folder_stands_for_its_runs() -> None:
    folder = kept("line", "zero_grad", "halve_grad")
    assert group_at(folder.path) == newest_group(folder)


def test_the_out_folder_stands_for_its_newest_experiment() -> None:
    old, new = kept("b", "zero_grad"), kept("a", "halve_grad")
    os.utime(old.runs()[0].record_file, (1000, 1000))
    assert group_at(Path("runs")).runs == new.runs()
    os.utime(new.runs()[0].record_file, (500, 500))
    assert group_at(Path("runs")).runs == old.runs()


def test_experiments_are_listed_the_newest_first() -> None:
    for nth, name in enumerate(["b", "c", "a"]):
        os.utime(kept(name, "zero_grad").runs()[0].record_file, (1000 + nth, 1000 + nth))
    assert [each.path.name for each in store.experiments(Path("runs"))] == ["a", "c", "b"]


def test_folders_and_files_that_hold_no_run_are_no_experiments() -> None:
    kept("line", "zero_grad")
    Path("runs/empty").mkdir()
    Path("runs/notes.txt").touch()
    assert [each.path.name for each in store.experiments(Path("runs"))] == ["line"]


def test_there_are_no_experiments_where_there_is_no_folder() -> None:
    assert store.experiments(Path("nowhere")) == []


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("nowhere", "No run folder 'nowhere'"),
        ("empty", "No runs in 'empty'"),
        ("file", "'file' is not a folder"),
    ],
)
def test_a_path_without_runs_says_what_is_there(path: str, wrong: str) -> None:
    Path("empty").mkdir()
    Path("file").touch()
    with pytest.raises(StoreError, match=wrong) as caught:
        group_at(Path(path))
    assert "gradlab" in str(caught.value)


def test_a_name_that_no_folder_can_have_is_named_in_the_error() -> None:
    with pytest.raises(StoreError, match="nnnnn"):
        group_at(Path("n" * 300))


# CSV


@given(rows_)
def test_a_csv_holds_every_row_exactly(rows: list[Row]) -> None:
    found = list(csv.DictReader(store.csv_of([(RECORD, rows, [])], geometry=True)))
    numbers = [
        Row(
            int(row["step"]), int(row["update"]), int(row["epoch"]), float(row["loss"]), float(row["items"]),
            Geometry(*(float(row[name]) for name in Geometry._fields)) if row["cosine"] else None,
        )
        for row in found
    ]  # fmt: skip
    assert exact(rows) == exact(numbers)
    assert all((row["experiment"], row["mode"], row["seed"]) == ("line", "zero_grad", "1") for row in found)


def test_the_columns_of_a_csv_are_in_the_agreed_order() -> None:
    agreed = "experiment,mode,seed,step,update,epoch,loss,items"
    assert next(iter(store.csv_of([]))) == f"{agreed}\n"
    assert next(iter(store.csv_of([], geometry=True))) == f"{agreed},fresh_norm,gradient_norm,cosine,update_norm\n"


def test_a_row_without_geometry_has_empty_cells() -> None:
    measured = Row(1, 1, 0, 0.1, 1, Geometry(**GEOMETRY))
    _, first, second = store.csv_of([(RECORD, [ROWS[0], measured], [])], geometry=True)
    assert first == "line,zero_grad,1,0,0,0,1.5,1,,,,\n"
    assert second == "line,zero_grad,1,1,1,0,0.1,1,1.5,2.0,-0.25,0.1\n"


@pytest.mark.parametrize(("log", "logs"), [(["geometry"], True), ([], False), (None, False), (3, False)])
def test_the_settings_say_whether_rows_have_geometry(log: object, logs: bool) -> None:
    assert replace(RECORD, settings={"log": log}).logs_geometry == logs
    assert not replace(RECORD, settings={}).logs_geometry


def test_a_csv_of_several_runs_has_one_header() -> None:
    lines = list(store.csv_of([(RECORD, ROWS, []), (RECORD, ROWS, [])]))
    assert len(lines) == 1 + 2 * len(ROWS)


def test_a_mode_with_a_comma_is_one_cell_of_a_csv() -> None:
    header, row = csv.reader(store.csv_of([(replace(RECORD, mode="keep=0.5,every=4"), ROWS[:1], [])]))
    assert dict(zip(header, row, strict=True))["mode"] == "keep=0.5,every=4"


# JSON


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=10,
    )
)
def test_any_document_is_strict_json(document: object) -> None:
    json.loads(store.strict_json(document), parse_constant=no_such_token)


def test_numbers_that_are_not_finite_are_strings_in_json() -> None:
    assert json.loads(store.strict_json([math.nan, math.inf, -math.inf, 1.5])) == ["nan", "inf", "-inf", 1.5]


def test_a_lock_on_a_removed_file_is_taken_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that waited for a lock may get that of a file that its last owner removed."""
    from gradlab.store import folders, locks

    removed: list[Path] = []

    def open_removed(file: Path) -> int:
        handle = open_locked(file)
        if not removed:
            file.unlink()
            removed.append(file)
        return handle

    open_locked = locks.open_locked
    monkeypatch.setattr(folders, "open_locked", open_removed)
    experiment = ExperimentFolder(folder)
    with (
        experiment.locked("name"),
        pytest.raises(StoreError, match="another gradlab is doing the same"),
        experiment.locked("name"),
    ):
        pass
    assert not removed[0].exists()
