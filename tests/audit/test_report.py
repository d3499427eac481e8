"""The report as text: for terminals of any width, pipes and notebooks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from gradlab import audit
from gradlab.audit.formats.full import NARROWEST
from gradlab.audit.history.history import History, MeasuredUpdate, OptimizerHistory, Stretch
from gradlab.audit.places import Place
from gradlab.audit.recording.recorder import Recorder
from gradlab.audit.report import Report
from tests.audit.training import loader_of, multiplied, train

LONG = "/home/me/a_folder_of_many_projects/one_of_them/train_with_a_name_that_is_longer_than_some_lines.py"


def never_clearing(kind: str = "SGD", updates: int = 8, file: str = LONG, line: int = 7) -> OptimizerHistory:
    """Return the history of an optimizer whose gradients are never cleared."""
    measured = [MeasuredUpdate(nth, (1.0,)) for nth in range(2, updates + 1)]
    seen = OptimizerHistory(kind, 4, updates=updates, stretches=[Stretch("B", 1, updates)], measured=measured)
    seen.add_place("S", Place(file, line))
    return seen


def report_of(*optimizers: OptimizerHistory) -> Report:
    return Report(History(list(optimizers)))


@pytest.mark.parametrize("width", [NARROWEST, *range(36, 46), 80, 200])
@pytest.mark.parametrize(
    "file", [LONG, "/家/訓練" * 30 + ".py", "/" + "x" * 300], ids=["long", "wide letters", "one word"]
)
def test_lines_fit_the_terminal_and_no_letter_is_lost(width: int, file: str) -> None:
    lines = report_of(never_clearing(file=file)).lines(width)
    wide = [sum(2 if ord(letter) > 0x2E80 else 1 for letter in line) for line in lines]
    assert max(wide) <= width
    assert f"at{file}:7" in "".join("".join(lines).split())


def test_words_are_whole_and_paths_break_between_folders() -> None:
    report = report_of(never_clearing(file="/data/" + "folder/" * 12 + "train.py"))
    words = " ".join(report.lines(1000)).split()
    parts = " ".join(report.lines(40)).split()
    assert [word for word in words if word not in parts] == ["/data/" + "folder/" * 12 + "train.py:7"]
    assert not any(line.endswith(" at") for line in report.lines(40))
    assert [part for part in parts if "/" in part and not part.endswith(("/", "train.py:7"))] == []


def test_continued_lines_are_indented_further() -> None:
    report = report_of(never_clearing())
    begun = [line.split()[0] for line in report.lines(1000)]
    narrow = report.lines(40)
    assert [line.split()[0] for line in narrow if not line.startswith("    ")] == begun
    assert len(narrow) > len(begun)


@pytest.mark.parametrize("count", [2, 20])
def test_optimizers_with_the_same_report_share_one_line(count: int) -> None:
    lines = report_of(*[never_clearing() for _ in range(count)], never_clearing("Adam")).lines(200)
    heads = [line for line in lines if " updates, " in line]
    assert [head.partition(":")[0] for head in heads] == ["2 × SGD #1, #2" if count == 2 else "20 × SGD", "Adam"]
    assert len([line for line in lines if line.startswith("  never cleared")]) == 2


def test_many_optimizers_that_differ_in_numbers_share_a_range() -> None:
    two = report_of(never_clearing(updates=8), never_clearing(updates=9)).lines(200)
    many = report_of(*[never_clearing(updates=8 + nth) for nth in range(20)]).lines(200)
    assert [line.partition(",")[2][:11] for line in two if line.startswith("SGD #")] == [" 8 updates,", " 9 updates,"]
    assert next(line for line in many if "×" in line).startswith("20 × SGD: 4 parameters, 8 to 27 updates, ")


def test_findings_of_many_trials_at_the_same_lines_are_one() -> None:
    report = report_of(*[never_clearing(updates=8 + nth) for nth in range(20)], never_clearing(line=90))
    assert len(report.findings) == 21
    lines = report.lines(200)
    assert [line.rpartition(":")[2] for line in lines if line.startswith("error never-cleared")] == ["7", "90"]
    assert lines.count("  and 19 more at the same lines") == 1


def test_the_report_counts_optimizers_that_are_not_watched() -> None:
    report = report_of(*[never_clearing() for _ in range(3)])
    assert not [line for line in report.lines() if "watched" in line]
    report.history.unwatched = 5
    assert "  watched the first 3 optimizers; 5 more were not watched" in report.lines()


def test_a_script_is_named_as_seen_from_where_it_was_started(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    report = report_of(never_clearing(file=str(folder / "mine" / "train.py")))
    os.chdir("elsewhere")
    assert any(line.endswith(f", at {Path('mine', 'train.py')}:7") for line in report.lines())


def test_a_folder_that_is_gone_takes_no_report_with_it(folder: Path) -> None:
    (folder / "gone").mkdir()
    os.chdir("gone")
    (folder / "gone").rmdir()
    assert f"{LONG}:7" in "".join(report_of(never_clearing()).lines(200))


def test_a_notebook_shows_a_report_as_its_text() -> None:
    report: Any = report_of(never_clearing())
    assert repr(report) == str(report)
    assert repr(report).splitlines()[0] == "gradlab audit: 1 error"


def test_without_a_step_the_report_says_why_nothing_was_audited() -> None:
    head, reason = Report(Recorder().history).lines(300)
    assert (head, reason[:33]) == ("gradlab audit: nothing audited", "  no optimizer was seen. Perhaps ")
    report = report_of(OptimizerHistory("SGD", 2))
    assert report.lines(300)[1] == f"  {report.nothing_audited}"
    assert str(report.nothing_audited).startswith("no optimizer took a step. ")


def test_steps_in_threads_at_once_count_as_audited() -> None:
    history = History([OptimizerHistory("SGD", 2)], threads_at_once=True)
    assert Report(history).nothing_audited is None
    assert report_of(never_clearing()).nothing_audited is None


def test_a_cell_of_a_notebook_is_named_with_its_lines() -> None:
    lines = report_of(never_clearing(file="<ipython-input-3-5f2d>", line=9)).lines(200)
    assert any("cell In[3], line 9" in line for line in lines)


def test_optimizers_of_one_class_are_numbered_with_their_groups() -> None:
    other = never_clearing(updates=9, line=90)
    other.groups = 2
    report = report_of(never_clearing(), never_clearing("Adam"), other)
    heads = [line.partition(":")[0] for line in report.lines(200) if " updates, " in line]
    assert heads == ["SGD #1", "Adam", "SGD #2 (2 groups)"]
    assert [each.message.partition(":")[0] for each in report.findings] == ["SGD #1", "Adam", "SGD #2"]


def test_without_findings_the_number_of_measurements_is_shown() -> None:
    def report_lines(sample: int | None, updates: int) -> list[str]:
        model = torch.nn.Linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        with audit.watch(sample) as report:
            for _ in range(updates):
                optimizer.zero_grad()
                model(torch.ones(1, 2)).sum().backward()
                optimizer.step()
        return report.lines()

    assert report_lines(None, 250)[-1] == "  measured 106 of 250 updates; --sample 1 measures all"
    assert report_lines(None, 8)[-1] == "  cleared at every update"
    assert report_lines(1, 1100)[-1] == "  cleared at every update"  # not all measurements are stored


def measured(*times: int) -> Report:
    """Return the report on optimizers with this number of measured updates of nine."""
    return report_of(*(OptimizerHistory("SGD", 1, updates=9, times_measured=each) for each in times))


@pytest.mark.parametrize(
    ("times", "line"),
    [
        ((1,), "  only 1 update was measured; most rules need at least 4"),
        ((3,), "  only 3 updates were measured; most rules need at least 4"),
        ((2, 3), "  only 3 updates per optimizer were measured; most rules need at least 4"),
    ],
)
def test_too_few_measured_updates_are_reported(times: tuple[int, ...], line: str) -> None:
    assert line in measured(*times).lines(100)


@pytest.mark.parametrize("report", [measured(4), measured(1, 4), report_of()], ids=["4", "1 and 4", "no update"])
def test_enough_measured_updates_are_not_mentioned(report: Report) -> None:
    assert "only" not in str(report).partition("Perhaps")[0]


def test_steps_within_the_pass_leave_keep_unmeasured() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    optimizers = {p: torch.optim.SGD([p], lr=0.1, foreach=False) for p in model.parameters()}
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(lambda p: optimizers[p].step())  # type: ignore[no-untyped-call]  # torch does not say
    with audit.watch(1) as report:
        for _ in range(40):
            model(torch.randn(8, 4)).square().mean().backward()
    assert report.findings == []
    assert {each.keep for each in report.optimizers} == {None}
    assert all(each.meaning.endswith("it steps inside backward passes") for each in report.optimizers)


@pytest.mark.parametrize(("count", "found"), [(3, []), (4, ["partly-kept"])])
def test_a_kept_share_is_reported_once_four_updates_show_it(count: int, found: list[str]) -> None:
    measured = [
        *(MeasuredUpdate(nth) for nth in range(1, 6)),
        *(MeasuredUpdate(nth, (0.5,)) for nth in range(6, 6 + count)),
    ]
    seen = OptimizerHistory("SGD", 4, updates=10, stretches=[Stretch("B", 1, 10)], measured=measured)
    assert [each.id for each in report_of(seen).findings] == found


@pytest.mark.parametrize(
    ("share", "meaning"),
    [
        (-0.5, "-0.5 times the gradient stays in .grad and is subtracted from the next one"),
        (1.5, "1.5 times the gradient stays in .grad and grows with every update"),
        (1.0, "never cleared, which equals momentum 1 with this SGD and will not settle"),
        (0.0, "cleared at every update"),
    ],
)
def test_the_sentence_on_keep_fits_the_share(share: float, meaning: str) -> None:
    with audit.watch(1) as report:
        train(multiplied(share))
    assert report.optimizers[0].meaning == meaning


def test_the_report_says_that_gradients_are_summed() -> None:
    model = torch.nn.Linear(3, 1)
    with audit.watch() as report:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for nth, (inputs,) in enumerate(loader_of(64), 1):
            model(inputs).sum().backward()
            if nth % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()
    assert [each.mode for each in report.optimizers] == ["accumulate:4:sum"]
    assert "summed" in report.optimizers[0].meaning
    assert report.findings == []


def test_an_optimizer_created_before_the_watch_lacks_no_pass() -> None:
    weight = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.01)
    with audit.watch() as report:
        for _ in range(9):
            weight.square().sum().backward()  # type: ignore[no-untyped-call]  # torch types it loosely
            optimizer.step()
    assert "9 updates, 1 backward pass per update" in str(report)
