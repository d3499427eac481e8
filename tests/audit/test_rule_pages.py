"""Pages of rules: they have one form, their examples give what they claim, and the index agrees with them.

python -m tests.audit.test_rule_pages        rewrites the table of rules in docs/audit.md
"""

from __future__ import annotations

import ast
import gc
import inspect
import json
import re
import runpy
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from rich.cells import cell_len
from typer.testing import CliRunner

from gradlab import audit
from gradlab.audit.choice.ignoring import apply_comments
from gradlab.audit.choice.rules import DEFAULT, UNUSED_IGNORE, known_ids
from gradlab.audit.findings import RULES
from gradlab.audit.rule_pages import SECTIONS, RulePage, ids, page
from gradlab.cli import app
from gradlab.errors import AuditError
from gradlab.terminal.pages import MarkdownPage
from tests.screen import WIDTHS, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlab.audit import Report

DOCUMENT = Path(__file__).parents[2] / "docs" / "audit.md"
HEAD = "| id | severity | finds |\n|---|---|---|\n"
SCRIPT = re.compile(r"```python\n(.*?)\n```", re.DOTALL)
SEVERITIES = ("error", "warning", "note")
SYMPTOMS = DOCUMENT.read_text(encoding="utf-8").partition("## By symptom\n")[2].partition("\n## ")[0]

FUNCTIONS = {**RULES, UNUSED_IGNORE: apply_comments}

every_rule = pytest.mark.parametrize("rule", FUNCTIONS)


def script_of(rule: str, section: str) -> str:
    """Return the only script of a section."""
    (script,) = SCRIPT.findall(page(rule).sections[section])
    return str(script)


def run(rule: str, section: str, folder: Path) -> tuple[Report, dict[str, Any]]:
    """Run the script of a section under a watch with default sampling and this rule.

    Return the report and the script's globals.
    """
    file = folder / "train.py"
    file.write_text(script_of(rule, section), encoding="utf-8")
    with audit.watch(select=[rule]) as report:
        left = runpy.run_path(str(file))
    assert report.history.faults == []
    return report, left


def severities_in(rule: str) -> list[str]:
    """Return the severities that the source of a rule names, with its helpers of the same module."""
    module = inspect.getmodule(FUNCTIONS[rule])
    waiting, seen, found = [FUNCTIONS[rule].__name__], set[str](), set[str]()
    while waiting:
        name = waiting.pop()
        function = getattr(module, name, None)
        if name in seen or not inspect.isfunction(function) or function.__module__ != getattr(module, "__name__", ""):
            continue
        seen.add(name)
        nodes = list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))))
        found |= {each.value for each in nodes if isinstance(each, ast.Constant) and each.value in SEVERITIES}
        waiting += [each.id for each in nodes if isinstance(each, ast.Name)]
    return [each for each in SEVERITIES if each in found]


def joined(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def test_every_rule_has_a_page_and_every_page_a_rule() -> None:
    assert ids() == sorted(known_ids())


@every_rule
def test_a_page_has_the_form_of_all_pages(rule: str) -> None:
    its = page(rule)
    assert its.markdown.startswith(f"# {rule}\n\n{its.severity}\n\n## {SECTIONS[0]}\n\n{its.summary.split()[0]} ")
    assert tuple(its.sections) == SECTIONS
    assert [title for title, body in its.sections.items() if not body] == []
    assert its.summary.startswith("Finds ")
    assert its.summary.endswith(".")
    for section in ("Example", "Use instead"):
        assert 12 <= len(script_of(rule, section).splitlines()) <= 25
    assert [line for line in its.markdown.splitlines() if len(line) > 80 and line != its.severity] == []
    assert "](" not in its.markdown, "a link leads nowhere in a terminal"


@every_rule
def test_the_severity_line_agrees_with_the_code(rule: str) -> None:
    default = "On by default." if rule in DEFAULT else f"Off by default: `--select {rule}` turns it on."
    assert page(rule).severity == f"Severity: {joined(severities_in(rule))}. {default}"
    assert page(rule).severities == severities_in(rule)


@pytest.fixture(scope="module")
def _few_objects() -> Iterator[None]:
    """Keep the objects of other tests out of the audit's garbage collections, which else take most of the time."""
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)  # the first optimizer imports the compiler
    gc.freeze()
    yield
    gc.unfreeze()


@every_rule
@pytest.mark.usefixtures("_few_objects")
@pytest.mark.filterwarnings("ignore:`parameters` is an empty generator", "ignore:Detected call of `lr_scheduler.step")
def test_the_example_gives_exactly_this_finding(rule: str, folder: Path) -> None:
    report, _ = run(rule, "Example", folder)
    assert [each.id for each in report.findings] == [rule]
    assert report.findings[0].severity in page(rule).severities


@every_rule
@pytest.mark.usefixtures("_few_objects")
def test_the_corrected_example_gives_no_finding(rule: str, folder: Path) -> None:
    report, _ = run(rule, "Use instead", folder)
    assert report.findings == []
    assert sum(each.updates for each in report.optimizers) >= 3


def test_the_scripts_of_partly_kept_compute_the_same(folder: Path) -> None:
    kept, momentum = (run("partly-kept", each, folder)[1] for each in ("Example", "Use instead"))
    assert torch.equal(kept["model"].weight, momentum["model"].weight)


def test_a_page_is_read_into_its_parts() -> None:
    its = page("never-cleared")
    assert (its.id, its.severity) == ("never-cleared", "Severity: error. On by default.")
    assert its.summary == "Finds gradients that nothing clears, so every step uses the sum of all earlier ones."
    assert its.sections["Use instead"].startswith("```python\nimport torch\n")
    assert page("parameter-without-optimizer").severities == ["error", "warning", "note"]


def test_an_id_may_have_underscores_and_capitals() -> None:
    assert page("Never_cleared") == page("never-cleared")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Never_Clear", r"^unknown rule 'Never_Clear'; did you mean 'never-cleared'\?$"),
        ("../audit", r"^unknown rule '\.\./audit'; docs/audit.md lists all rules$"),
    ],
)
def test_an_unknown_rule_is_an_error(name: str, message: str) -> None:
    with pytest.raises(AuditError, match=message):
        page(name)


# gradlab audit --explain


def test_explain_prints_the_page_as_it_is_into_a_pipe() -> None:
    done = CliRunner().invoke(app, ["audit", "--explain", "never-cleared"])
    assert (done.exit_code, done.stdout, done.stderr) == (0, page("never-cleared").markdown, "")


def test_explain_lays_the_page_out_on_a_terminal() -> None:
    env = {"FORCE_COLOR": "1", "COLUMNS": "40"}
    done = CliRunner().invoke(app, ["audit", "--explain", "never-cleared"], env=env, color=True)
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert lines == shown(MarkdownPage(page("never-cleared").markdown), 40, colour=True)
    assert "##" not in done.stdout
    assert "\x1b[36m.grad\x1b[0m" in done.stdout  # without a background


def test_explain_ignores_the_script_and_later_options(folder: Path) -> None:
    (folder / "s.py").write_text("print('it runs')")
    done = CliRunner().invoke(app, ["audit", "--json", "--explain", "graph-kept", "--exit-zero", "s.py", "--nosuch"])
    assert (done.exit_code, done.stdout) == (0, page("graph-kept").markdown)


def test_explain_names_the_nearest_rule_and_exits_with_2() -> None:
    done = CliRunner().invoke(app, ["audit", "--explain", "graph-keep"])
    message = "unknown rule 'graph-keep'; did you mean 'graph-kept'?"
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"{message}\n")
    done = CliRunner().invoke(app, ["audit", "--json", "--explain", "graph-keep"])
    assert (done.exit_code, json.loads(done.stdout)) == (2, {"error": {"message": message, "exit_status": 2}})


def plain(markdown: str) -> str:
    """Return the characters of a page without marks and white space."""
    return re.sub(r"^#+ |^```.*|^\* |`|\s+|•", "", markdown, flags=re.MULTILINE)


@every_rule
@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_fits_the_terminal_and_loses_no_word(rule: str, width: int) -> None:
    markdown = page(rule).markdown
    lines = [line.strip() for line in shown(MarkdownPage(markdown), width)]
    assert max(map(cell_len, lines)) <= width
    assert plain("\n".join(lines)) == plain(markdown)


# The tables of docs/audit.md


def row(its: RulePage) -> str:
    """Return the table line of a rule."""
    severity = joined(its.severities) + ("" if its.id in DEFAULT else ", on request")
    return (
        f"| [`{its.id}`](rules/{its.id}.md) | {severity} | {its.summary.removeprefix('Finds ').removesuffix('.')} |\n"
    )


def with_index(document: str) -> str:
    """Return the document with the table of all rules."""
    before, _, rest = document.partition(HEAD)
    after = rest[re.match(r"(\|.*\n)*", rest).end() :]  # type: ignore[union-attr]  # it always matches
    return before + HEAD + "".join(row(page(rule)) for rule in known_ids()) + after


def test_the_index_agrees_with_the_pages() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert document == with_index(document), "rewrite it: python -m tests.audit.test_rule_pages"


@pytest.mark.parametrize("rule", RULES)
def test_a_symptom_leads_to_every_rule(rule: str) -> None:
    assert f"[`{rule}`](rules/{rule}.md)" in SYMPTOMS


def test_every_symptom_leads_to_a_rule() -> None:
    rows = SYMPTOMS.strip().splitlines()[2:]
    assert len(rows) > 15
    for each in rows:
        names = re.findall(r"\[`([a-z-]+)`\]\(rules/\1\.md\)", each)
        assert names
        assert set(names) <= set(RULES)


if __name__ == "__main__":
    DOCUMENT.write_text(with_index(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
