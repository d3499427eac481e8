"""Comments that ignore findings, and notes on those that don't."""

from __future__ import annotations

import linecache
import re
import sys
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.optimizer import register_optimizer_step_post_hook
from typer.testing import CliRunner

from gradlab import audit
from gradlab.audit.choice.comments import _parsed, comments_in
from gradlab.audit.choice.evidence import EVIDENCE, has_evidence
from gradlab.audit.choice.ignoring import is_ignored
from gradlab.audit.findings import RULES, Finding
from gradlab.audit.history.history import MeasuredUpdate, OptimizerHistory, Stretch
from gradlab.audit.history.loss import UNKNOWN
from gradlab.audit.places import Place
from gradlab.cli import app
from tests.audit.test_scripts import FAULTY, SCRIPTS, finding_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from gradlab.audit import Report

HEAD = """\
import torch
w = torch.ones(3, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.01)
"""
LOOP = """\
for _ in range(12):
    w.square().sum().backward(){backward}
    optimizer.step(){step}
"""
NOT_CLEARED = HEAD + LOOP


def watched(
    folder: Path, source: str, *, encoding: str = "utf-8", select: Sequence[str] = (), ignore: Sequence[str] = ()
) -> Report:
    """Run a script under a watch."""
    file = folder / "s.py"
    file.write_text(source, encoding=encoding)
    with audit.watch(1, select=select, ignore=ignore) as report:
        exec(compile(file.read_bytes(), str(file), "exec"), {"__name__": "script"})  # noqa: S102 - our own code
    assert report.history.faults == []
    return report


def ids_of(report: Report) -> list[str]:
    return [each.id for each in report.findings]


def lines_of(source: str) -> list[tuple[int, int, int, tuple[str, ...]]]:
    """Return the line of every comment, the first and last line of its statement, and its ids."""
    assert all(each.understood for each in _parsed(source))
    return [each[:4] for each in _parsed(source)]


# Reading


@pytest.mark.parametrize(
    ("comment", "ids"),
    [
        ("# gradlab: ignore[never-cleared]", ("never-cleared",)),
        ("#gradlab:ignore[ never_cleared , graph-kept,]", ("never_cleared", "graph-kept")),
        ("# noqa: E501  # gradlab: ignore[x] as we keep it", ("x",)),
        ("# gradlab: ignore", ()),
        ("# gradlab: ignore[]", ()),
    ],
)
def test_a_comment_names_its_rules(comment: str, ids: tuple[str, ...]) -> None:
    assert lines_of(f"a = 1\nb = 2  {comment}\n") == [(2, 2, 2, ids)]


def test_two_comments_of_one_line_count() -> None:
    assert lines_of("a()  # gradlab: ignore[x]  # gradlab: ignore[y]") == [(1, 1, 1, ("x",)), (1, 1, 1, ("y",))]


@pytest.mark.parametrize(
    "text",
    ["'# gradlab: ignore[x]'", '"""\n# gradlab: ignore[x]\n"""', "1  # a gradlab: ignored[x]", "1  # gradlabs: x"],
)
def test_strings_and_other_comments_are_none(text: str) -> None:
    assert lines_of(f"a = {text}\n") == []


def test_a_comment_covers_all_lines_of_its_statement() -> None:
    source = """\
if a:
    b(
        1,  # gradlab: ignore[x]
    )
    c = 1 + \\
        2  # gradlab: ignore[y]

# gradlab: ignore[z]
for d in (
    e  # gradlab: ignore[v]
):
    f()
"""
    assert lines_of(source) == [
        (3, 2, 4, ("x",)),
        (6, 5, 6, ("y",)),
        (8, 8, 8, ("z",)),
        (10, 9, 11, ("v",)),
    ]


def test_a_file_that_does_not_parse_is_read_up_to_its_error() -> None:
    before = "a()  # gradlab: ignore[x]\n"
    for rest in ("b = (\n", "'''", "  c\n d\n", "%time e()\n", "$"):
        assert lines_of(before + rest) == [(1, 1, 1, ("x",))]


@given(st.text(st.sampled_from("ab \n\t()[]'\"#\\%:")))
def test_a_comment_of_any_source_lies_within_its_statement(text: str) -> None:
    found = _parsed(f"a()  # gradlab: ignore[x]\n{text}  # gradlab: ignore[y]")
    assert found[0][:4] == (1, 1, 1, ("x",))
    assert [each for each in found if not 1 <= each.first <= each.line <= each.last] == []


def test_a_missing_file_has_no_comments(folder: Path) -> None:
    assert comments_in(str(folder / "none.py")) == ()
    (folder / "bytes.py").write_bytes(b"# coding: utf-8\n\xff  # gradlab: ignore[x]")
    assert comments_in(str(folder / "bytes.py")) == ()


def test_a_changed_file_is_read_again(folder: Path) -> None:
    file = folder / "s.py"
    file.write_text("a()  # gradlab: ignore[x]\n")
    assert [each.ids for each in comments_in(str(file))] == [("x",)]
    file.write_text("a()  # gradlab: ignore[x, y]\n")
    assert [each.ids for each in comments_in(str(file))] == [("x", "y")]


@pytest.fixture
def _cell(request: pytest.FixtureRequest) -> Iterator[None]:
    """Give Python the lines of a cell, as IPython does."""
    source = request.param
    linecache.cache["<ipython-input-1>"] = (len(source), None, source.splitlines(keepends=True), "<ipython-input-1>")
    yield
    del linecache.cache["<ipython-input-1>"]


CELL = NOT_CLEARED.format(backward="  # gradlab: ignore[never-cleared]", step="")


@pytest.mark.usefixtures("_cell")
@pytest.mark.parametrize("_cell", [CELL], indirect=True, ids=["cell"])
def test_a_comment_in_a_notebook_cell_counts() -> None:
    with audit.watch(1) as report:
        exec(compile(CELL, "<ipython-input-1>", "exec"), {"__name__": "cell"})  # noqa: S102 - our own code
    assert (report.findings, [each.id for each in report.ignored]) == ([], ["never-cleared"])


# Ignoring


@pytest.mark.parametrize("where", ["backward", "step"])
def test_any_line_that_the_finding_lists_will_do(folder: Path, where: str) -> None:
    comments = {"backward": "", "step": "", where: "  # gradlab: ignore[never-cleared]"}
    report = watched(folder, NOT_CLEARED.format(**comments))
    assert (report.ok, report.findings, [each.id for each in report.ignored]) == (True, [], ["never-cleared"])
    assert str(report).splitlines()[0] == "gradlab audit: nothing found"
    assert "  1 finding ignored by comments" in str(report).splitlines()
    assert report.as_json("s.py", 0)["findings"] == []


def test_without_comments_the_report_counts_none(folder: Path) -> None:
    report = watched(folder, NOT_CLEARED.format(backward="", step=""))
    assert (ids_of(report), report.ignored, "ignored" in str(report)) == (["never-cleared"], [], False)


def test_a_comment_in_a_file_of_another_encoding_counts(folder: Path) -> None:
    source = "# coding: latin-1\n# é\n" + NOT_CLEARED.format(backward="", step="  # gradlab: ignore[never-cleared] é")
    assert watched(folder, source, encoding="latin-1").findings == []


@pytest.mark.usefixtures("_main_restored")
def test_an_ignored_error_leaves_the_status_0(folder: Path) -> None:
    (folder / "s.py").write_text(NOT_CLEARED.format(backward="  # gradlab: ignore[never_cleared]", step=""))
    done = CliRunner().invoke(app, ["audit", "s.py"])
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (0, "  1 finding ignored by comments")


def test_warn_does_not_warn_of_what_a_comment_ignores(folder: Path, warning_recorders: list[object]) -> None:
    source = NOT_CLEARED.format(backward="  # gradlab: ignore[never-cleared]", step="")
    file = folder / "s.py"
    file.write_text(source)
    audit.warn()
    exec(compile(source, str(file), "exec"), {"__name__": "script"})  # noqa: S102 - a warning would be an error
    assert len(warning_recorders) == 1


WITHOUT_LINES = {"requires-grad-of-module"}
ONE_EACH = [name for name in FAULTY if name.partition("_")[2] == finding_of(name) not in WITHOUT_LINES]


def commented(name: str) -> str:
    """Return a script with comments that ignore its finding, at all lines that the finding lists."""
    return re.sub(
        r"# (- )?here.*", f"# gradlab: ignore[{finding_of(name)}]", SCRIPTS[name].read_text(encoding="utf-8")
    )


@pytest.mark.parametrize("name", ONE_EACH)
def test_every_rule_can_be_ignored_at_the_lines_it_lists(name: str, folder: Path) -> None:
    rule = finding_of(name)
    assert rule
    report = watched(folder, commented(name), select=[rule])
    assert (report.findings, {each.id for each in report.ignored}) == ([], {rule})


def test_every_rule_was_tried() -> None:
    assert {finding_of(name) for name in ONE_EACH} == set(RULES) - WITHOUT_LINES


# Notes


def notes_of(report: Report) -> list[tuple[int, str]]:
    """Return the lines of the notes on comments, and their messages."""
    assert all(each.severity == "note" for each in report.findings if each.id == "unused-ignore")
    return [(each.places[0].line, each.message) for each in report.findings if each.id == "unused-ignore"]


CLEARED = HEAD + LOOP + "    optimizer.zero_grad(){clear}\n"


def test_an_unused_comment_is_a_note(folder: Path) -> None:
    source = CLEARED.format(backward="", step="", clear="  # gradlab: ignore[never-cleared]")
    report = watched(folder, source)
    assert notes_of(report) == [(7, "never-cleared was not found on this line, so this comment ignores nothing")]
    assert report.ok


def test_a_comment_on_another_line_is_a_note_with_the_lines(folder: Path) -> None:
    source = "# gradlab: ignore[never-cleared]\n" + NOT_CLEARED.format(backward="", step="")
    report = watched(folder, source)
    assert ids_of(report) == ["never-cleared", "unused-ignore"]
    assert notes_of(report) == [(1, "never-cleared was found, but not on this line: it lists 6, 7")]


def test_a_comment_without_a_known_rule_is_a_note(folder: Path) -> None:
    source = CLEARED.format(backward="  # gradlab: ignore", step="  # gradlab: ignore[never-clear, x]", clear="")
    assert notes_of(watched(folder, source)) == [
        (5, "this comment names no rule, so it ignores nothing"),
        (6, "unknown rule 'never-clear'; did you mean 'never-cleared'?"),
        (6, "unknown rule 'x'"),
    ]


@pytest.mark.parametrize("comment", ["# gradlab: ignores[never-cleared]", "#gradlab:", "# Gradlab: skip"])
def test_a_comment_that_is_not_understood_is_a_note(folder: Path, comment: str) -> None:
    report = watched(folder, CLEARED.format(backward="", step=f"  {comment}", clear=""))
    assert notes_of(report) == [(6, "this comment is not understood, so it ignores nothing")]
    assert report.findings[0].instead == "write # gradlab: ignore[ID], with the id of a finding"


@pytest.mark.parametrize(
    ("ids", "instead"),
    [("never-cleared", "move it to line 6 or 7"), ("x, never-cleared", "move this id to line 6 or 7")],
)
def test_a_note_says_where_a_comment_belongs(folder: Path, ids: str, instead: str) -> None:
    source = f"# gradlab: ignore[{ids}]\n" + NOT_CLEARED.format(backward="", step="")
    assert watched(folder, source).findings[-1].instead == instead


def test_a_note_on_a_comment_names_no_update(folder: Path) -> None:
    report = watched(folder, CLEARED.format(backward="", step="  # gradlab: ignore", clear=""))
    assert "note unused-ignore, at s.py:6" in report.lines(300)


def test_one_used_id_does_not_excuse_another(folder: Path) -> None:
    source = NOT_CLEARED.format(backward="  # gradlab: ignore[stepped-twice, never-cleared]", step="")
    report = watched(folder, source)
    assert [message.partition(" ")[0] for _, message in notes_of(report)] == ["stepped-twice"]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (CLEARED.replace("12", "5"), "too few updates"),
        (CLEARED.replace("range(12)", "()"), "no training"),
        ("if 0:\n    f()  {mark}\n" + CLEARED.replace("{clear}", ""), "a line that did not run"),
    ],
)
def test_without_evidence_an_unused_comment_is_no_note(folder: Path, source: str, why: str) -> None:
    mark = "# gradlab: ignore[never-cleared]"
    report = watched(folder, source.format(backward="", step="", clear=mark, mark=mark))
    assert notes_of(report) == [], why


def test_a_rule_that_is_not_chosen_gives_no_note(folder: Path) -> None:
    source = CLEARED.format(backward="", step="", clear="  # gradlab: ignore[never-cleared]")
    assert notes_of(watched(folder, source, ignore=("never-cleared",))) == []
    assert notes_of(watched(folder, source, ignore=("unused-ignore",))) == []


def test_a_comment_can_ignore_the_note_on_itself(folder: Path) -> None:
    source = CLEARED.format(backward="", step="", clear="  # gradlab: ignore[never-cleared, unused-ignore]")
    report = watched(folder, source)
    assert (report.findings, report.ignored) == ([], [])


@pytest.mark.parametrize("rule", ["clips-nothing", "clipped-before-backward"])
def test_a_note_needs_what_its_rule_looks_at(folder: Path, rule: str) -> None:
    source = CLEARED.format(backward=f"  # gradlab: ignore[{rule}]", step="", clear="")
    clipping = source.replace(
        "    optimizer.step", "    torch.nn.utils.clip_grad_norm_([w], 0.01)\n    optimizer.step"
    )
    assert notes_of(watched(folder, source)) == []
    assert [line for line, _ in notes_of(watched(folder, clipping))] == [5]


def test_after_many_updates_a_comment_on_kept_graphs_is_a_note(folder: Path) -> None:
    source = CLEARED.format(backward="  # gradlab: ignore[graph-kept]", step="", clear="")
    assert [line for line, _ in notes_of(watched(folder, source.replace("12", "60")))] == [5]


def trained(trace: str, updates: int = 8, **settings: Any) -> OptimizerHistory:
    """Return the history of an optimizer whose updates all have this trace, and are all measured."""
    stretches = [Stretch(trace, 1, updates)]
    return OptimizerHistory("SGD", 1, updates=updates, stretches=stretches, times_measured=updates, **settings)


LOSSES: Any = {"losses": {(2, UNKNOWN): [8, 1]}}


@pytest.mark.parametrize(
    ("rule", "enough", "too_little"),
    [
        ("never-cleared", trained("B"), trained("B", 7)),
        ("cleared-once-an-epoch", trained("zB"), trained("B")),
        ("accumulation-without-effect", trained("zBB"), trained("zB")),
        ("last-window-dropped", trained("zBBebBB"), trained("zBB")),
        ("last-window-dropped", trained("zBBebBB"), trained("zBeb")),
        ("loss-not-divided", trained("zBB", **LOSSES), trained("zBB")),
        ("clipped-before-backward", trained("zBc", clips_shortened=1), trained("zBc")),
        ("clipped-before-unscale", trained("zBuc", clips_shortened=1), trained("zBc", clips_shortened=1)),
        ("unscaled-without-scaling", trained("zBu"), trained("zB")),
        ("scheduler-at-every-micro-batch", trained("zBsBs"), trained("zBs")),
        ("leaking-loss", trained("zBo"), trained("zB")),
        ("closure-without-clearing", trained("zL"), trained("zB")),
        ("gradient-of-another-pass", trained("zB", measured=[MeasuredUpdate(1, moved=True)]), trained("zB")),
        ("graph-kept", trained("zB", 50), trained("zB", 49)),
    ],
)
def test_evidence_is_what_the_rule_looks_at(rule: str, enough: OptimizerHistory, too_little: OptimizerHistory) -> None:
    assert (has_evidence(rule, enough), has_evidence(rule, too_little)) == (True, False)


def test_only_known_rules_have_evidence() -> None:
    assert set(EVIDENCE) <= set(RULES)
    assert {"gradient-not-finite", "frozen-parameter-moves", "stale-parameter"}.isdisjoint(EVIDENCE)


@pytest.fixture
def _stopped() -> Iterator[None]:
    """End a script after nine updates."""
    steps = count(1)

    def stop(*_: object) -> None:
        if next(steps) >= 9:
            sys.exit()

    handle = register_optimizer_step_post_hook(stop)
    yield
    handle.remove()


@pytest.mark.usefixtures("_stopped")
@pytest.mark.parametrize("name", FAULTY)
def test_a_needed_comment_is_no_note_in_a_short_run(name: str, folder: Path) -> None:
    source = commented(name)
    file = folder / "s.py"
    file.write_text(source)
    with audit.watch() as report, suppress(SystemExit):  # a few take less than nine updates
        exec(compile(source, str(file), "exec"), {"__name__": "__main__"})  # noqa: S102 - our own code
    assert notes_of(report) == []


def test_a_finding_without_lines_is_not_ignored() -> None:
    found = Finding("never-cleared", "error", 1, (), "", "")
    assert not is_ignored(found)
    assert not is_ignored(found._replace(places=(Place("none.py", 1),)))
