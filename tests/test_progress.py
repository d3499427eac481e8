"""Progress: a bar that fits the terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import re
import time
from io import StringIO
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from gradlab.terminal import messages, progress
from gradlab.terminal.progress import ProgressBar, ProgressLines, RunProgress, SweepProgress
from tests.making import result

WIDTHS = [120, 80, 60, 40]


def test_without_a_terminal_each_end_of_a_run_is_a_line() -> None:
    said: list[str] = []
    lines = RunProgress(ProgressLines(said.append), 2)
    lines.on_start("zero_grad seed 1", 1, 10)
    lines.on_progress(1)
    lines.on_end(result([2.0, 1.0]))
    lines.on_end(result([2.0, 1.0], "halve_grad", status="failed")._replace(cached=False))
    lines.close()
    assert said == ["1/2 zero_grad seed 1: done", "2/2 halve_grad seed 1: failed"]


def test_a_reused_run_has_no_line_and_counts() -> None:
    said: list[str] = []
    lines = RunProgress(ProgressLines(said.append), 2)
    lines.on_end(result([2.0, 1.0])._replace(cached=True))
    assert not said
    lines.on_end(result([2.0, 1.0], "halve_grad"))
    assert said == ["2/2 halve_grad seed 1: done"]


def test_without_a_terminal_a_long_run_has_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    lines = RunProgress(ProgressLines(said.append), 1)
    lines.on_start("zero_grad seed 1", 1, 10)
    lines.on_progress(5)
    lines.on_start("zero_grad seed 1", 1, None)
    lines.on_progress(7)
    assert re.fullmatch(r"1/1 zero_grad seed 1: step 5 of 10, [\d,]+ steps/s, \d:\d\d left", said[0])
    assert re.fullmatch(r"1/1 zero_grad seed 1: step 7, [\d,]+ steps/s", said[1])


def test_what_comes_before_the_first_run_is_shown() -> None:
    console = Console(width=80, file=StringIO(), force_terminal=True, legacy_windows=False)
    display = ProgressBar(console)
    SweepProgress(display).on_prepare("checking 9 points of the grid")
    display.progress.refresh()
    display.close()
    assert isinstance(console.file, StringIO)
    assert "checking 9 points of the grid" in console.file.getvalue()
    said: list[str] = []
    SweepProgress(ProgressLines(said.append)).on_prepare("checking 9 points of the grid")
    assert said == []


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_a_command_in_a_notebook_s_cell_prints_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    bar = messages.progress_display()
    bar.close()
    assert isinstance(bar, ProgressBar)
    monkeypatch.setenv("JPY_PARENT_PID", "12")
    assert isinstance(messages.progress_display(), ProgressLines)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a file that is always full")
def test_a_full_or_closed_stderr_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        messages.print_message("careful")
    messages.print_message("closed")
    monkeypatch.setattr("sys.stderr", None)
    messages.print_message("missing")
    assert stream.closed  # which raises unless its output is discarded


def test_a_short_run_has_no_line_before_its_end() -> None:
    said: list[str] = []
    lines = RunProgress(ProgressLines(said.append), 1)
    lines.on_start("zero_grad seed 1", 1, 10)
    for step in range(10):
        lines.on_progress(step)
    assert said == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("steps", [10_000_000, None])
def test_the_bar_fits_the_terminal_and_disappears(width: int, steps: int | None) -> None:
    console = Console(width=width, file=StringIO(), force_terminal=True, legacy_windows=False)
    display = ProgressBar(console)
    bar = RunProgress(display, runs=12)
    bar.on_start("accumulate:4:sum seed 123", 1, steps)
    bar.on_progress(1_234_567)
    display.progress.refresh()
    bar.on_end(result([1.0]))
    bar.close()
    assert isinstance(console.file, StringIO)
    output = console.file.getvalue()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output)
    assert "1/12" in plain
    assert max(cell_len(line) for line in re.split(r"[\r\n]+", plain)) <= width
    assert output.endswith("\x1b[2K")  # the line is clear


def test_a_bar_that_was_never_shown_leaves_nothing_behind() -> None:
    console = Console(width=80, file=StringIO(), force_terminal=True)
    display = ProgressBar(console)
    bar = RunProgress(display, runs=1)
    bar.on_end(result([1.0]))
    bar.close()
    assert isinstance(console.file, StringIO)
    assert "zero_grad" not in console.file.getvalue()


def test_runs_trained_at_once_are_shown_together(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    lines = RunProgress(ProgressLines(said.append), 12)
    lines.on_start("10 runs at once", 10, 10)
    lines.on_progress(5)
    assert re.fullmatch(r"1-10/12 10 runs at once: step 5 of 10, [\d,]+ run-steps/s, \d:\d\d left", said[0])
    assert lines.status.done == 50


# Sweeps


@pytest.mark.parametrize("width", WIDTHS)
def test_the_bar_of_a_sweep_is_one_line_with_rate_and_time_left(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    out = StringIO()
    display = ProgressBar(Console(file=out, force_terminal=True, width=width))
    bar = SweepProgress(display)
    bar.on_start("sweep", 8712, done_runs=500)
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    bar.on_progress(1_000_000, 1000)
    monkeypatch.setattr("time.monotonic", lambda: 110.0)
    bar.on_progress(6_000_000, 3000.5)
    display.progress.refresh()
    bar.close()
    last = [line for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())) if line][-1]
    assert "3,000/8,712" in last
    assert "500,000" in last
    assert "0:29 left" in last  # 5711.5 runs at 200.05 a second
    assert cell_len(last) <= width


def test_without_a_terminal_a_long_sweep_has_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    lines = ProgressLines(said.append)
    sweep = SweepProgress(lines)
    sweep.on_start("sweep", 100, done_runs=20)
    sweep.on_progress(10, 30.0)
    assert not said
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    sweep.on_start("sweep", 100, done_runs=20)
    lines.due = 0.0
    sweep.on_progress(1000, 20.2)
    monkeypatch.setattr("time.monotonic", lambda: 102.0)
    sweep.on_progress(5000, 60.2)
    sweep.close()
    assert said == ["20/100 runs", "60/100 runs, 2,000 run-steps/s, 0:02 left"]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_sweep_has_no_rate_before_it_is_measured(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    out = StringIO()
    display = ProgressBar(Console(file=out, force_terminal=True, width=width))
    bar = SweepProgress(display)
    bar.on_start("sweep", 54, done_runs=0)
    later = time.monotonic() + 40  # processes have started since
    monkeypatch.setattr("time.monotonic", lambda: later)
    bar.on_progress(1, 0.02)
    display.progress.refresh()
    bar.close()
    assert "0/54" in out.getvalue()
    assert "steps/s" not in out.getvalue()
    assert "left" not in out.getvalue()


def test_a_narrow_bar_of_a_run_has_no_rate_before_its_first_step() -> None:
    out = StringIO()
    display = ProgressBar(Console(file=out, force_terminal=True, width=40))
    bar = RunProgress(display, runs=1)
    bar.on_start("zero_grad seed 1", 1, 10)
    display.progress.refresh()
    bar.close()
    assert "1/1" in out.getvalue()
    assert "steps/s" not in out.getvalue()
