"""Damage to a run's files is reported or harmless: no traceback, and no damaged run counts as done."""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gradlab.cli import app
from gradlab.errors import StoreError
from gradlab.rows import Evaluation, Row
from gradlab.store import ExperimentFolder, RunFolder, RunRecord
from tests.faults.table import injected

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = [Row(step, step // 2, step // 5, 1.5 / (step + 1), 3 if step % 2 else 1) for step in range(12)]
EVALUATIONS = [
    Evaluation(step, step // 2, step // 5, {"validation_loss": 1.5 / step, "accuracy": math.inf if step == 6 else 0.5})
    for step in (3, 6, 9, 12)
]
RECORD = RunRecord(
    experiment="line", mode="zero_grad", seed=1, identity="0123456789ab", settings={"mode": "zero_grad"},
    status="done", versions={"torch": "2"}, started="2026-01-01T00:00:00+00:00", seconds=0.25, rows=len(ROWS),
)  # fmt: skip
FEW = 5  # rows of a log that is read thousands of times, for speed
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["step", "update", "epoch", "loss", "items", "format", "seed", "writer"]), inner, max_size=5),
    max_leaves=10,
)  # fmt: skip
lines = st.lists(st.binary(max_size=40) | st.builds(lambda value: json.dumps(value).encode(), documents), max_size=6)


def made(name: str = "run") -> RunFolder:
    """Write a finished run with twelve rows."""
    folder = RunFolder(Path(name))
    folder.make()
    with folder.log() as log:
        for row in ROWS:
            log.append(row)
        log.sync()
        folder.write(replace(RECORD, rows_sha256=log.sha256))
    return folder


def evaluated() -> tuple[RunFolder, RunRecord]:
    """Write a finished run with four evaluations, and return its record too."""
    folder = made()
    with folder.evaluation_log() as log:
        for each in EVALUATIONS:
            log.append(each)
    record = replace(folder.read(), evaluations=log.count, evaluations_sha256=log.sha256)
    assert folder.verified_record(record)[1] == ""
    return folder, record


def test_a_torn_log_keeps_all_whole_rows() -> None:
    folder = made()
    whole = folder.rows_file.read_bytes()
    content = whole.replace(b'"step":3', '"é":0,"step":3'.encode())  # a character of two bytes
    for end in range(len(content)):
        folder.rows_file.write_bytes(content[:end])
        expected = ROWS[: content[:end].count(b"\n")]
        assert folder.rows()[:2] == (expected, [])
        assert folder.whole_rows() == len(expected)
        assert folder.verified_record(RECORD)[1]
        if end % 25 == 0:
            log = folder.log(keep=len(expected))
            with log:
                for row in ROWS[len(expected) :]:
                    log.append(row)
            assert folder.rows().rows == ROWS
            assert log.sha256 == folder.rows().sha256
    injected("truncated log", len(content))


def test_no_flipped_bit_of_a_log_passes_for_a_whole_run() -> None:
    folder = made()
    record = folder.read()
    whole = b"".join(folder.rows_file.read_bytes().splitlines(keepends=True)[:FEW])
    record = replace(record, rows=FEW, rows_sha256=hashlib.sha256(whole).hexdigest())
    for nth in range(len(whole) * 8):
        content = bytearray(whole)
        content[nth // 8] ^= 1 << nth % 8
        folder.rows_file.write_bytes(content)
        rows, damaged, _ = folder.rows()
        assert folder.verified_record(record)[1]
        hit = whole[: nth // 8].count(b"\n")  # the line of the flipped bit
        assert folder.whole_rows() >= hit
        assert rows[:hit] == ROWS[:hit]
        assert len(rows) + len(damaged) in (FEW - 1, FEW, FEW + 1)
        assert all(f":{hit + 1}: not a row" in line or f":{hit + 2}: not a row" in line for line in damaged)
    injected("flipped bit in the log", len(whole) * 8)


def test_torn_evaluations_keep_all_whole_ones() -> None:
    folder, record = evaluated()
    content = folder.evaluations_file.read_bytes()
    for end in range(len(content)):
        folder.evaluations_file.write_bytes(content[:end])
        expected = EVALUATIONS[: content[:end].count(b"\n")]
        assert folder.evaluations()[:2] == (expected, [])
        fault = f"{folder.evaluations_file} has {len(expected)} of 4 evaluations; `gradlab run` retrains it"
        assert folder.verified_record(record) == (replace(record, status="failed"), fault)
        if end % 10 == 0:
            with folder.evaluation_log(before=100) as log:
                for each in EVALUATIONS[len(expected) :]:
                    log.append(each)
            assert folder.evaluations().evaluations == EVALUATIONS
            assert (log.sha256, log.count) == (record.evaluations_sha256, 4)
    injected("truncated evaluations", len(content))


def test_no_flipped_bit_of_evaluations_passes_for_whole_ones() -> None:
    folder, record = evaluated()
    whole = folder.evaluations_file.read_bytes()
    for nth in range(len(whole) * 8):
        content = bytearray(whole)
        content[nth // 8] ^= 1 << nth % 8
        folder.evaluations_file.write_bytes(content)
        found, damaged, _ = folder.evaluations()
        assert folder.verified_record(record)[1]
        hit = whole[: nth // 8].count(b"\n")  # the line of the flipped bit
        assert found[:hit] == EVALUATIONS[:hit]
        assert len(found) + len(damaged) in (3, 4, 5)
        assert all(f":{hit + 1}: not an ev" in line or f":{hit + 2}: not an ev" in line for line in damaged)
    injected("flipped bit in the evaluations", len(whole) * 8)


def test_no_bytes_make_reading_evaluations_fail() -> None:
    folder = RunFolder(Path("run"))
    folder.make()
    seen = 0

    @given(lines)
    def read(content: list[bytes]) -> None:
        nonlocal seen
        seen += 1
        folder.evaluations_file.write_bytes(b"\n".join(content))
        found, damaged, _ = folder.evaluations()
        assert len(found) + len(damaged) == b"\n".join(content).count(b"\n")
        with folder.evaluation_log(before=10**6) as log:
            assert log.count <= len(found)

    read()
    injected("random bytes as evaluations", seen)


def test_a_block_of_zeros_costs_the_lines_it_touches_alone() -> None:
    folder = made()
    whole = folder.rows_file.read_bytes()
    dice = random.Random(1)  # noqa: S311 - a fixed seed
    for _ in range(200):
        size = dice.randint(1, 64)
        begin = dice.randrange(len(whole) - size)
        content = whole[:begin] + bytes(size) + whole[begin + size :]
        folder.rows_file.write_bytes(content)
        first, last = whole[:begin].count(b"\n"), whole[: begin + size].count(b"\n")
        rows, damaged, _ = folder.rows()
        assert rows == ROWS[:first] + ROWS[last + 1 :]
        assert folder.whole_rows() == first
        torn = last == len(ROWS) - 1 and not content.endswith(b"\n")
        assert len(damaged) == (0 if torn else 1)
    injected("lost block in the log", 200)


def test_no_bytes_make_reading_a_log_fail() -> None:
    folder = RunFolder(Path("run"))
    folder.make()
    seen = 0

    @given(lines)
    def read(content: list[bytes]) -> None:
        nonlocal seen
        seen += 1
        folder.rows_file.write_bytes(b"\n".join(content))
        rows, damaged, _ = folder.rows()
        assert len(rows) + len(damaged) == b"\n".join(content).count(b"\n")
        assert folder.whole_rows() <= len(rows)

    read()
    injected("random bytes as a log", seen)


def test_any_bytes_for_a_record_fail_in_one_line_at_most() -> None:
    folder = RunFolder(Path("run"))
    folder.make()
    seen = 0

    @given(st.binary(max_size=60) | st.builds(lambda value: json.dumps(value).encode(), documents), st.booleans())
    def read(content: bytes, formatted: bool) -> None:
        nonlocal seen
        seen += 1
        if formatted:
            content = (
                b'{"format":1,"experiment":"a","mode":"m","seed":1,"identity":"","settings":{},"status":"running",'
            )
            content += b'"writer":' + content + b"}"
        folder.record_file.write_bytes(content)
        message = ""
        try:
            folder.read()
        except StoreError as error:
            message = str(error)
        assert "\n" not in message
        assert len(message) < 250

    read()
    injected("random bytes as a record", seen)


def test_no_flipped_bit_of_a_record_is_a_traceback() -> None:
    folder = made()
    whole = folder.record_file.read_bytes()
    flips = [(at, bit) for at in range(len(whole)) for bit in (at % 7, 7)]
    for at, bit in flips:
        content = bytearray(whole)
        content[at] ^= 1 << bit
        folder.record_file.write_bytes(content)
        with suppress(StoreError):
            folder.verified_record(folder.read())
    injected("flipped bit in a record", len(flips))


def test_a_link_in_place_of_a_file_is_never_followed() -> None:
    folder = made("line/run")
    record = folder.read()
    uses: list[tuple[Path, Callable[[], object], Callable[[], object]]] = [
        (folder.record_file, folder.read, lambda: folder.write(record)),
        (folder.rows_file, folder.rows, folder.log),
    ]
    for file, read, write in uses:
        target = Path("elsewhere").absolute()
        file.replace(target)
        before = target.read_bytes()
        file.symlink_to(target)
        for use in (read, write):
            with pytest.raises(
                StoreError, match=rf"{file.name} is a symbolic link, which gradlab does not follow"
            ) as caught:
                use()
            assert "\n" not in str(caught.value)
        assert file.is_symlink()
        assert target.read_bytes() == before
        target.unlink()
        with pytest.raises(StoreError, match="symbolic link"):  # and the link's target is not created
            write()
        assert not target.exists()
        file.unlink()
        target.write_bytes(before)
        target.replace(file)
    injected("symbolic link instead of a file", len(uses))


def test_a_pipe_in_place_of_a_file_is_refused_at_once() -> None:
    folder = made("line/run")
    files = [folder.record_file, folder.rows_file]
    begin = time.monotonic()
    for file, use in zip(files, [folder.read, folder.rows], strict=True):
        content = file.read_bytes()
        file.unlink()
        os.mkfifo(file)
        with pytest.raises(StoreError, match=rf"{file.name} is not a regular file"):
            use()
        if file == folder.rows_file:
            with pytest.raises(StoreError, match="is not a regular file"):
                folder.log()
        file.unlink()
        file.write_bytes(content)
    assert time.monotonic() - begin < 5
    injected("pipe instead of a file", len(files))


def test_a_file_where_a_folder_should_be_is_told_in_one_line() -> None:
    command = ["run", "--task", "noisy_line", "--set", "name=line", "--steps", "2", "-m", "zero_grad", "--quiet"]
    assert CliRunner().invoke(app, [*command, "--out", "there"]).exit_code == 0
    (run,) = Path("there/line").glob("zero_grad*")
    places = [Path("runs"), Path("runs/line"), Path("runs/line") / run.name]
    for path in places:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a file")
        answer = CliRunner().invoke(app, command)
        assert answer.exit_code == 2
        assert answer.stderr.startswith("runs")
        assert answer.stderr.count("\n") == 1
        assert path.read_text() == "a file"
        path.unlink()
    injected("file instead of a folder", len(places))


def test_a_mode_of_any_name_gets_a_short_visible_folder() -> None:
    seen = 0
    names = st.text(min_size=1, max_size=300) | st.sampled_from(
        ["é" * 300, "../../etc", ".hidden", "a\nb", "a\\b", "\udcff"]
    )

    @given(names, st.integers(0, 2**63))
    def name(mode: str, seed: int) -> None:
        nonlocal seen
        seen += 1
        one, other = (ExperimentFolder(Path("e")).run(mode, seed, identity * 12).path for identity in "ab")
        assert one.parent == Path("e")
        assert one != other
        assert len(os.fsencode(one.name)) <= 255
        assert one.name.isprintable()
        assert not one.name.startswith(".")
        assert one.name.endswith(f"-seed{seed}-aaaaaaaaaaaa")

    name()
    injected("odd mode names", seen)
