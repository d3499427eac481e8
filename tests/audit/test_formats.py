"""Formats of the report: each fits its schema and shows every finding at its line, hostile texts included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from gradlab.audit.findings import Finding
from gradlab.audit.formats import FORMATS, AuditResult
from gradlab.audit.formats.junit import junit
from gradlab.audit.formats.sarif import FINGERPRINT, sarif
from gradlab.audit.history.history import History
from gradlab.audit.places import Place
from gradlab.audit.report import Report
from gradlab.audit.rule_pages import page
from gradlab.errors import printable
from gradlab.store import strict_json
from tests.audit import reading
from tests.audit.reading import READERS, Shown

if TYPE_CHECKING:
    from gradlab.audit.findings import Severity

HOSTILE = (
    "]]> & <b> \" ' \x00\x07\x1b[31m \x85 \ufffe\uffff \ud800 tab\tand\r\nline %0A %25 ::error file=x::y , : é 訓練 "
    "\u2028 \u202e"
)
NAMES = [
    "my file,50%:1 \N{FIRE}.py",
    "new\nline.py",
    "]]>&\"'<.py",
    os.fsdecode(b"not-utf8-\xff.py"),
    "-x.py",
    "a=b::c.py",
]


def finding(name: str = "never-cleared", *places: Place, severity: Severity = "error", text: str = "why") -> Finding:
    return Finding(name, severity, 2, places, text, text)


def result_of(*findings: Finding, script: str = "train.py", exit_status: int = 0, **changes: Any) -> AuditResult:
    return AuditResult(History(), [], list(findings), str(Path.cwd()), None, script, exit_status, "1.2.3")._replace(
        **changes
    )


def written(name: str, result: AuditResult) -> str:
    """Return what the command writes."""
    document = FORMATS[name](result)
    return document if isinstance(document, str) else strict_json(document, indent=2, ascii_only=True)


def shown(name: str, result: AuditResult) -> list[Shown]:
    return READERS[name](written(name, result))


@pytest.fixture(autouse=True)
def repository(folder: Path) -> Path:
    """Return a repository with a script of ten lines in a folder, which is the current one."""
    (folder / ".git").mkdir()
    (folder / "models").mkdir()
    (folder / "models" / "train.py").write_text("".join(f"line {nth}\n" for nth in range(1, 11)))
    os.chdir(folder / "models")
    return folder


@pytest.mark.parametrize("name", READERS)
def test_each_format_shows_each_finding_at_its_line(name: str, repository: Path) -> None:
    here, other = str(repository / "models" / "train.py"), str(repository / "data.py")
    found = [
        finding("never-cleared", Place(here, 3), Place(here, 4)),
        finding("stepped-twice", Place(other, 9), severity="warning"),
        finding("stepped-twice", Place(other, 9), severity="warning"),
        finding("partly-kept", Place(here, 7), severity="note"),
    ]
    assert shown(name, result_of(*found)) == [
        ("models/train.py", 3, "error", "never-cleared"),
        ("data.py", 9, "warning", "stepped-twice"),
        ("data.py", 9, "warning", "stepped-twice"),
        ("models/train.py", 7, "note", "partly-kept"),
    ]


@pytest.mark.parametrize("name", READERS)
def test_hostile_messages_break_no_format(name: str, repository: Path) -> None:
    script = str(repository / "models" / "train.py")
    result = result_of(finding("graph-kept", Place(script, 3), text=HOSTILE), nothing_audited=HOSTILE)
    result.history.faults.append(HOSTILE)
    at_script = None if name != "gitlab" else 1
    severities = {"nothing-audited": "warning", "audit-failed": "error"}
    assert shown(name, result) == [
        ("models/train.py", 3, "error", "graph-kept"),
        *(
            ("models/train.py", at_script, key if name == "junit" else severity, key)
            for key, severity in severities.items()
        ),
    ]
    assert written(name, result) == printable(written(name, result)), "no terminal commands"


@pytest.mark.parametrize("file", NAMES, ids=ascii)
@pytest.mark.parametrize("name", READERS)
def test_hostile_file_names_break_no_format(name: str, file: str, repository: Path) -> None:
    (repository / file).write_text("a line\n")
    (one,) = shown(name, result_of(finding("graph-kept", Place(str(repository / file), 1)), script="no\nsuch\x1b.py"))
    replaced = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in file)
    assert one == (file if name == "sarif" and "utf8" not in file else replaced, 1, "error", "graph-kept")


@pytest.mark.parametrize("name", READERS)
def test_a_finding_without_a_place_is_at_the_script(name: str) -> None:
    (one,) = shown(name, result_of(finding("graph-kept")))
    assert one == ("models/train.py", 1 if name == "gitlab" else None, "error", "graph-kept")


@pytest.mark.parametrize("name", READERS)
def test_a_cell_of_a_notebook_is_named(name: str) -> None:
    (one,) = shown(name, result_of(finding("graph-kept", Place("<ipython-input-3-5f2d0c>", 9))))
    where = ("cell In[3], line 9", None) if name == "sarif" else ("cell In[3]", 9)
    assert one == (*where, "error", "graph-kept")


@pytest.mark.parametrize("name", READERS)
def test_a_file_outside_the_repository_is_absolute(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "my lib.py"
    elsewhere.write_text("x\n")
    (one,) = shown(name, result_of(finding("graph-kept", Place(str(elsewhere), 1))))
    assert one == (str(elsewhere), 1, "error", "graph-kept")


SILENT: dict[str, list[Shown]] = {name: [] for name in READERS}
SILENT["junit"] = [
    Shown("models/train.py", None, "note", "nothing found")
]  # a suite without tests looks like a mistake


@pytest.mark.parametrize("name", READERS)
def test_without_findings_nothing_is_shown(name: str) -> None:
    assert shown(name, result_of()) == SILENT[name]


@pytest.mark.parametrize("name", READERS)
def test_nothing_audited_is_reported(name: str) -> None:
    report = Report(History())
    assert (report.nothing_audited or "").startswith("no optimizer was seen. Perhaps ")
    result = report.result("train.py")
    (one,) = shown(name, result)
    severity = "nothing-audited" if name == "junit" else "warning"
    assert one == ("models/train.py", 1 if name == "gitlab" else None, severity, "nothing-audited")
    assert "nothing was audited: no optimizer was seen" in written(name, result)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("nothing", "text"),
    [
        (None, "exit status 3; findings cover what came before"),
        ("x", "exit status 3 before any optimizer took a step"),
    ],
)
def test_a_script_that_failed_is_reported(name: str, nothing: str | None, text: str) -> None:
    result = result_of(exit_status=3, nothing_audited=nothing)
    (one,) = shown(name, result)
    severity = "script-failed" if name == "junit" else "error"
    assert one == ("models/train.py", 1 if name == "gitlab" else None, severity, "script-failed")
    assert f"the script ended with {text}" in written(name, result)


@pytest.mark.parametrize("name", READERS)
def test_limits_of_the_audit_are_reported(name: str) -> None:
    result = result_of()
    result.history.unwatched = 5
    (one,) = shown(name, result)
    assert (one.severity, one.id) == ("note" if name == "junit" else "warning", "audit-limited")
    result.history.threads_at_once = True
    assert [each.id for each in shown(name, result)] == ["no-verdict"]
    assert "5 more were not watched" in written(name, result)


@pytest.mark.parametrize("name", READERS)
def test_what_the_audit_covers_is_a_note(name: str) -> None:
    result = result_of()
    result.history.information += ["covers all ranks", "ended early"]
    (one,) = shown(name, result)
    assert (one.severity, one.id) == ("note", "audit-scope")
    assert "covers all ranks; ended early" in written(name, result)


def test_the_full_format_is_the_report_without_terminal_commands() -> None:
    result = result_of(finding("graph-kept", Place(str(Path.cwd() / "train.py"), 3), text="a \x1b[31m b"))
    assert written("full", result).splitlines() == [
        "gradlab audit: 1 error",
        "error graph-kept, since update 2, at train.py:3",  # as seen from the current folder
        "  a \N{REPLACEMENT CHARACTER}[31m b",
        "  instead: a \N{REPLACEMENT CHARACTER}[31m b",
    ]


# GitHub


def test_a_parser_of_commands_reads_githubs_examples() -> None:
    example = "::error file=app.js,line=1,title=Syntax Error::Missing semicolon"
    properties = {"file": "app.js", "line": "1", "title": "Syntax Error"}
    assert reading.command_in(example) == ("error", properties, "Missing semicolon")
    assert reading.command_in("::notice title=a%2Cb%3Ac%25::50%25%0A%250A").message == "50%\n%0A"


def test_the_message_of_an_annotation_survives_escaping(repository: Path) -> None:
    script = str(repository / "models" / "train.py")
    text = "50% of a::b, c\nd %0A"
    result = result_of(finding("never-cleared", Place(script, 3), Place(script, 4), text=text))
    (line,) = reading.lines_of(written("github", result))
    assert reading.command_in(line).message == f"{text}\ninstead: {text}\nalso at models/train.py:4"


# SARIF


def run_of(result: AuditResult, **options: Any) -> dict[str, Any]:
    log = json.loads(json.dumps(sarif(result, **options)))
    run: dict[str, Any] = log["runs"][0]
    return run


def test_a_log_names_the_tool_its_version_and_the_repository(repository: Path) -> None:
    run = run_of(result_of())
    assert (run["tool"]["driver"]["name"], run["tool"]["driver"]["version"]) == ("gradlab", "1.2.3")
    assert "version" not in run_of(result_of(version=""))["tool"]["driver"]
    assert run["originalUriBaseIds"] == {"SRCROOT": {"uri": f"{repository.as_uri()}/"}}


def test_further_lines_are_related_locations(repository: Path) -> None:
    places = [Place(str(repository / file), line) for file, line in [("a.py", 3), ("a.py", 5), ("b c.py", 1)]]
    (found,) = run_of(result_of(finding("graph-kept", *places)))["results"]
    related = [each["physicalLocation"] for each in found["relatedLocations"]]
    assert [(each["artifactLocation"]["uri"], each["region"]["startLine"]) for each in related] == [
        ("a.py", 5),
        ("b%20c.py", 1),
    ]
    assert [each["id"] for each in found["relatedLocations"]] == [1, 2]


def test_rules_are_listed_once_with_help_and_their_worst_level() -> None:
    found = [finding("loss-not-divided", severity=each) for each in ("note", "error", "note")]
    run = run_of(result_of(*found, finding("graph-kept")))
    assert [(each["id"], each["defaultConfiguration"]["level"]) for each in run["tool"]["driver"]["rules"]] == [
        ("loss-not-divided", "error"),
        ("graph-kept", "error"),
    ]
    graph_kept = page("graph-kept")
    assert run["tool"]["driver"]["rules"][1] == {
        "id": "graph-kept",
        "name": "GraphKept",
        "shortDescription": {"text": graph_kept.summary},
        "fullDescription": {"text": graph_kept.summary},
        "help": {"text": graph_kept.markdown, "markdown": graph_kept.markdown},
        "defaultConfiguration": {"level": "error"},
    }
    assert [each["ruleIndex"] for each in run["results"]] == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("changes", "successful", "ids"),
    [
        ({}, True, []),
        ({"exit_status": 143}, False, ["script-failed"]),
        ({"nothing_audited": "nothing"}, False, ["nothing-audited"]),
        ({"history": History(unwatched=3)}, True, ["audit-limited"]),
        ({"history": History(information=["x"])}, True, ["audit-scope"]),
        ({"history": History(threads_at_once=True)}, False, ["no-verdict"]),
        ({"history": History(faults=["x"])}, False, ["audit-failed"]),
    ],
    ids=lambda each: str(each)[:20],
)
def test_the_invocation_says_how_the_script_ended(changes: dict[str, Any], successful: bool, ids: list[str]) -> None:
    (invocation,) = run_of(result_of(**changes))["invocations"]
    assert (invocation["exitCode"], invocation["executionSuccessful"]) == (changes.get("exit_status", 0), successful)
    assert [each["descriptor"]["id"] for each in invocation["toolExecutionNotifications"]] == ids


# Fingerprints


def fingerprints(result: AuditResult) -> list[str]:
    return [each["partialFingerprints"][FINGERPRINT] for each in run_of(result)["results"]]


def test_fingerprints_survive_lines_added_above(repository: Path) -> None:
    script = repository / "models" / "train.py"
    before = fingerprints(
        result_of(finding("never-cleared", Place(str(script), 3)), finding("never-cleared", Place(str(script), 3)))
    )
    script.write_text("import torch\n\n" + script.read_text().replace("line 3", "    line 3"))
    after = fingerprints(
        result_of(finding("never-cleared", Place(str(script), 5)), finding("never-cleared", Place(str(script), 5)))
    )
    assert before == after
    assert len(set(before)) == 2


def test_fingerprints_differ_by_rule_file_and_line(repository: Path) -> None:
    script = repository / "models" / "train.py"
    (repository / "copy.py").write_text(script.read_text())
    found = [
        finding("never-cleared", Place(str(script), 3)),
        finding("graph-kept", Place(str(script), 3)),
        finding("never-cleared", Place(str(script), 4)),
        finding("never-cleared", Place(str(repository / "copy.py"), 3)),
        finding("never-cleared", Place(str(script), 99)),  # the file is shorter now
        finding("never-cleared", Place(str(repository / "gone.py"), 3)),
        finding("never-cleared"),
    ]
    assert len(set(fingerprints(result_of(*found)))) == len(found)


def test_a_line_that_is_not_utf8_has_a_fingerprint(repository: Path) -> None:
    script = repository / "models" / "train.py"
    script.write_bytes(b"# coding: latin-1\nx = '\xe9'\ny = '\xe8'\n")
    assert (
        len(set(fingerprints(result_of(*(finding("never-cleared", Place(str(script), line)) for line in (2, 3))))))
        == 2
    )


# JUnit


def test_a_test_fails_per_mistake_and_passes_per_note(repository: Path) -> None:
    script = str(repository / "models" / "train.py")
    found = [finding("never-cleared", Place(script, 3), Place(script, 4)), finding("partly-kept", severity="note")]
    suite = ET.fromstring(junit(result_of(*found)))[0]  # noqa: S314 - ours
    assert [[part.tag for part in case] for case in suite] == [["failure"], ["system-out"]]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    assert (suite[0][0].text or "").splitlines() == [
        "error never-cleared, since update 2, at models/train.py:3, models/train.py:4",
        "why",
        "instead: why",
        page("never-cleared").summary,
    ]


def test_the_schema_of_junit_accepts_pytests_own_reports() -> None:
    Path("test_it.py").write_text(
        "import pytest\n"
        "def test_passes(): print('out')\n"
        "def test_fails(): assert 0\n"
        "def test_errs(nothing): pass\n"
        "@pytest.mark.skip\ndef test_skips(): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov"]
    subprocess.run([*command, "--junitxml", "them.xml"], capture_output=True, check=False)
    text = Path("them.xml").read_text(encoding="utf-8")
    assert text.count("<testcase") == 4
    reading.junit_schema().validate(text)
