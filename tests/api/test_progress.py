"""Progress suits the place: one output in a notebook, a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from matplotlib.figure import Figure

from gradlab.api import progress
from gradlab.api.progress import LiveProgress, NotebookDisplay
from gradlab.store import RunFolder
from gradlab.terminal.progress import Status
from tests.api.making import short, swept
from tests.making import result

if TYPE_CHECKING:
    from tests.api.conftest import Shell


EVERY = progress.DRAW_EVERY


class Plan(NamedTuple):
    """What live progress reads of a plan."""

    folder: RunFolder
    title: str
    done: bool = False


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time of progress in seconds, as a list that a test changes."""
    found = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: found[0]))
    return found


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the modes of every picture, which is drawn whenever a step is reported."""
    found: list[list[str]] = []

    def draw(runs: Any) -> Figure:
        found.append([record.settings["mode"] for record, _ in runs])
        return Figure(figsize=(1, 1))

    monkeypatch.setattr("gradlab.plotting.draw", draw)
    for name in ("DRAW_EVERY", "DRAW_SHARE", "UPDATE_EVERY"):
        monkeypatch.setattr(progress, name, 0.0)
    return found


def test_a_notebook_has_one_updating_output(shell: Shell) -> None:
    short(quiet=False)
    assert shell.displays == 1
    assert "<progress" in shell.shown[0]["text/html"]
    assert "1/2 zero_grad seed 42" in shell.shown[0]["text/plain"]
    assert "<progress" not in shell.shown[-1]["text/html"]
    assert shell.shown[-1]["text/plain"].endswith(" s")


def test_a_reused_result_shows_no_progress(shell: Shell) -> None:
    short()
    short(quiet=False)
    assert shell.displays == 0


def test_messages_stay_in_the_output_of_a_notebook(shell: Shell) -> None:
    display = NotebookDisplay()
    display.print("<careful>")
    display.log("not shown")
    display.close()
    assert shell.shown[-1]["text/html"].startswith("<div>&lt;careful&gt;</div>")


def test_a_notebook_is_updated_five_times_a_second(shell: Shell, clock: list[float]) -> None:
    display = NotebookDisplay()
    status = Status(1, 2, "training", [], "", "")
    display.begin(status)
    for nth in range(100):
        clock[0] = nth / 100
        display.update(status)
    assert 5 <= len(shell.shown) <= 6


def test_a_sweep_shows_its_steps_before_the_first_run(shell: Shell) -> None:
    swept(quiet=False)
    texts = list(dict.fromkeys(each["text/plain"] for each in shell.shown))
    assert texts[:3] == [
        "measuring how many runs train fastest together", "checking 2 points of the grid", "starting to train",
    ]  # fmt: skip
    assert shell.displays == 1


def test_live_removes_the_picture_at_the_end(shell: Shell, drawn: list[list[str]]) -> None:
    short(quiet=False, live=True, steps=3)
    assert drawn
    assert any("<img" in each["text/html"] for each in shell.shown)
    assert "<img" not in shell.shown[-1]["text/html"]


def test_live_draws_finished_runs_too(shell: Shell, drawn: list[list[str]]) -> None:
    short(modes="halve_grad", steps=3)
    short(modes=["halve_grad", "zero_grad"], quiet=False, live=True, steps=3)
    assert shell.displays == 1
    assert drawn[0] == ["halve_grad", "zero_grad"]
    short(modes=["halve_grad", "zero_grad"], quiet=False, live=True, steps=3, fresh=True)
    assert ["halve_grad"] in drawn, "a run that is retrained is not drawn before it starts"


def test_live_draws_at_most_twice_a_second(
    shell: Shell, drawn: list[list[str]], clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "DRAW_EVERY", EVERY)
    short(out="there", modes="zero_grad", steps=3)
    plans = [Plan(RunFolder(next(Path("there").glob("*/zero_grad*"))), "zero_grad seed 42")]
    live = LiveProgress(NotebookDisplay(), plans, fresh=True)  # type: ignore[arg-type]  # what it reads of a plan
    live.on_start("zero_grad seed 42", 1, 3)
    for nth in range(100):
        clock[0] = nth / 100
        live.on_progress(nth)
    assert (len(drawn), shell.displays) == (1, 1)
    clock[0] = 1.2
    live.on_end(result([2.0, 1.0]))
    assert len(drawn) == 2, "the end of a run draws too"


def test_elsewhere_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    short(quiet=False, live=True)
    assert capsys.readouterr().err.splitlines() == ["1/2 zero_grad seed 42: done", "2/2 no_zero_grad seed 42: done"]


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    from gradlab.api import progress
    from gradlab.terminal.progress import ProgressBar

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    display = progress.place_display()
    display.close()
    assert isinstance(display, ProgressBar)
