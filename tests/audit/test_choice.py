"""Chosen rules: by `--select` and `--ignore`, in pyproject.toml, from Python."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from gradlab import audit
from gradlab.audit.choice.rules import DEFAULT, choose
from gradlab.audit.choice.settings import AuditSettings, settings_for
from gradlab.audit.findings import RULES
from gradlab.cli import app
from gradlab.errors import AuditError
from tests.audit.training import NEVER_CLEARING, multiplied, train

NAMES = sorted(RULES)


def settings_of(folder: Path, text: str) -> AuditSettings:
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")
    return settings_for(folder)


def faults_of(folder: Path, text: str) -> list[str]:
    """Return the mistakes in a pyproject.toml, without the path of its folder."""
    with pytest.raises(AuditError) as error:
        settings_of(folder, text)
    return str(error.value).replace(f"{folder}/", "").splitlines()


# Ids


def test_select_adds_to_the_default_rules_and_ignore_removes() -> None:
    base = frozenset({"never-cleared", "graph-kept"})
    assert choose(["partly-kept"], ["graph-kept"], base) == {"never-cleared", "partly-kept"}
    assert choose() == DEFAULT
    assert choose(ignore=["unused-ignore"]) == DEFAULT - {"unused-ignore"}


def test_ids_may_be_spelled_with_underscores_or_as_one_string() -> None:
    assert choose(ignore=["Never_Cleared", "graph-kept"]) == DEFAULT - {"never-cleared", "graph-kept"}
    assert choose(ignore="never-cleared") == DEFAULT - {"never-cleared"}


def test_all_mistakes_of_a_choice_are_one_error() -> None:
    with pytest.raises(AuditError) as error:
        choose(["never-clear", "graph-kept"], ["", "graph_kept"])
    assert str(error.value).splitlines() == [
        "select: unknown rule 'never-clear'; did you mean 'never-cleared'?",
        "ignore: unknown rule ''; docs/audit.md lists all rules",
        "ignore: 'graph-kept' is also in select; remove one",
    ]


# pyproject.toml


def test_without_a_table_all_settings_are_defaults(folder: Path) -> None:
    assert settings_of(folder, "[tool.other]\nx = 1\n") == AuditSettings((), (), None)
    assert settings_for(folder / "no" / "such") == AuditSettings()


def test_the_nearest_file_with_a_table_counts(folder: Path) -> None:
    inner = folder / "package" / "scripts"
    inner.mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[tool.gradlab.audit]\nignore = ["graph_kept"]\nsample = 3\n')
    (folder / "package" / "pyproject.toml").write_text("[project]\nname = 'package'\n")
    (inner / "pyproject.toml").mkdir()  # no file
    assert settings_for(inner) == AuditSettings((), ("graph_kept",), 3)
    assert settings_for(inner).rules() == DEFAULT - {"graph-kept"}
    (folder / "package" / "pyproject.toml").write_text("[tool.gradlab]\naudit = {select = ['partly-kept']}\n")
    assert settings_for(inner) == AuditSettings(("partly-kept",))


def test_all_mistakes_of_a_file_are_reported_with_their_lines(folder: Path) -> None:
    text = """\
        [tool.gradlab]
        compare = true
        [tool.gradlab.audit]
        selct = []
        ignore = [
            "never-clear", 3, "graph-kept",
        ]
        select = ["graph-kept"]
        sample = 0
        foo = 1
    """
    assert faults_of(folder, text) == [
        "pyproject.toml: unknown key 'tool.gradlab.compare'. Known: audit",
        "pyproject.toml:4: unknown key 'tool.gradlab.audit.selct'; did you mean 'select'?",
        "pyproject.toml:5: tool.gradlab.audit.ignore: unknown rule 'never-clear'; did you mean 'never-cleared'?",
        "pyproject.toml:5: tool.gradlab.audit.ignore: must hold ids of rules, got 3",
        "pyproject.toml:9: tool.gradlab.audit.sample: must be an integer of at least 1, got 0",
        "pyproject.toml:10: unknown key 'tool.gradlab.audit.foo'. Known: select, ignore, sample",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[tool.gradlab.audit\n", "pyproject.toml is not TOML: "),
        ("[tool.gradlab.audit]\n# \ud800", "pyproject.toml is not UTF-8 text: byte 23 is 0xed"),
        ("tool.gradlab = 3", "pyproject.toml: tool.gradlab must be a table, got 3"),
        ("tool.gradlab.audit = 3", "pyproject.toml: tool.gradlab.audit must be a table, got 3"),
        ("[tool.gradlab.audit]\nignore = 'graph-kept'", "ignore: must be a list of ids, got 'graph-kept'"),
        ("[tool.gradlab.audit]\nsample = true", "sample: must be an integer of at least 1, got True"),
        ("[tool.gradlab]\nadit = {}", "unknown key 'tool.gradlab.adit'; did you mean 'audit'?"),
        (
            "[tool.gradlab.audit]\nselect = ['graph-kept']\nignore = ['graph_kept']",
            "pyproject.toml:3: tool.gradlab.audit.ignore: 'graph-kept' is also in select; remove one",
        ),
    ],
    ids=["not TOML", "not UTF-8", "no table", "no inner table", "string", "boolean", "misspelt table", "both"],
)
def test_a_mistake_of_a_file_is_one_line(folder: Path, text: str, fault: str) -> None:
    (folder / "pyproject.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(AuditError) as error:
        settings_for(folder)
    (line,) = str(error.value).replace(f"{folder}/", "").splitlines()
    assert fault in line


def test_a_file_that_is_not_about_gradlab_may_be_broken(folder: Path) -> None:
    assert settings_of(folder, "[tool.other\n") == AuditSettings()
    (folder / "pyproject.toml").write_bytes(b"# \xe9\n")
    assert settings_for(folder) == AuditSettings()


def test_a_file_that_cannot_be_read_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(AuditError, match=r"pyproject\.toml cannot be read: Permission denied"):
        settings_for(folder)


# The command


@pytest.fixture(autouse=True)
def _main_is_restored(_main_restored: None) -> None:
    """Audit scripts in this process."""


def audited(*options: str, script: str = "s.py") -> tuple[int, list[str]]:
    """Return the exit status and the ids of the findings."""
    done = CliRunner().invoke(app, ["audit", "--json", *options, script])
    document: dict[str, Any] = json.loads(done.stdout)
    assert "error" not in document, document
    return done.exit_code, [each["id"] for each in document["findings"]]


def test_an_ignored_rule_counts_neither_as_finding_nor_status(folder: Path) -> None:
    (folder / "s.py").write_text(NEVER_CLEARING)
    assert audited() == (1, ["never-cleared"])
    assert audited("--ignore", "graph-kept", "--ignore", "never_cleared") == (0, [])


def test_the_report_names_rules_that_are_switched_off(folder: Path) -> None:
    (folder / "s.py").write_text(NEVER_CLEARING)
    (folder / "pyproject.toml").write_text("[tool.gradlab.audit]\nignore = ['never-cleared']\n")
    done = CliRunner().invoke(app, ["audit", "--ignore", "graph-kept,scheduler-too-long", "s.py"])
    assert "  not checked: never-cleared, graph-kept\n" in done.stderr
    done = CliRunner().invoke(app, ["audit", "--select", "never-cleared,scheduler-too-long", "s.py"])
    assert "not checked" not in done.stderr


@pytest.mark.parametrize("ids", ["graph-kept,never-cleared", "graph_kept, Never-Cleared,"])
def test_one_option_takes_several_ids(folder: Path, ids: str) -> None:
    (folder / "s.py").write_text(NEVER_CLEARING)
    assert audited("--ignore", ids) == (0, [])
    (folder / "pyproject.toml").write_text("[tool.gradlab.audit]\nignore = ['graph-kept', 'never-cleared']\n")
    assert audited("--select", ids) == (1, ["never-cleared"])


def test_a_wrong_id_among_several_is_named_alone(folder: Path) -> None:
    (folder / "s.py").write_text("print('runs')")
    done = CliRunner().invoke(app, ["audit", "--ignore", "graph-kept,never-clear", "s.py"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.endswith("--ignore: unknown rule 'never-clear'; did you mean 'never-cleared'?\n")


def test_the_table_is_that_above_the_script(folder: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / "s.py").write_text(NEVER_CLEARING)
    (folder / "mine" / "pyproject.toml").write_text("[tool.gradlab.audit]\nignore = ['never-cleared']\n")
    (folder / "s.py").write_text(NEVER_CLEARING)
    assert audited(script="mine/s.py") == (0, [])
    assert audited() == (1, ["never-cleared"])
    assert audited("--select", "never-cleared", script="mine/s.py") == (1, ["never-cleared"])


def test_with_a_module_the_table_is_that_of_the_current_folder(folder: Path) -> None:
    (folder / "package_with_a_table").mkdir()
    (folder / "package_with_a_table" / "train.py").write_text(NEVER_CLEARING)
    (folder / "package_with_a_table" / "pyproject.toml").write_text("[tool.gradlab.audit]\nsample = 0\n")
    (folder / "pyproject.toml").write_text("[tool.gradlab.audit]\nignore = ['never-cleared']\n")
    assert audited("-m", script="package_with_a_table.train") == (0, [])
    sys.modules.pop("package_with_a_table")


def test_sample_of_the_command_line_precedes_the_files(folder: Path) -> None:
    (folder / "s.py").write_text(NEVER_CLEARING)
    (folder / "pyproject.toml").write_text("[tool.gradlab.audit]\nsample = 1000\n")
    assert audited() == (0, [])  # too few measured updates
    assert audited("--sample", "1") == (1, ["never-cleared"])


@pytest.mark.parametrize("options", [["--select", "x", "--ignore", "never-clear"], []], ids=["options", "file"])
def test_a_mistake_in_the_choice_runs_no_script(folder: Path, options: list[str]) -> None:
    (folder / "s.py").write_text("print('runs')")
    (folder / "pyproject.toml").write_text("" if options else "[tool.gradlab.audit]\nsample = 0\nx = 1\n")
    done = CliRunner().invoke(app, ["audit", *options, "s.py"])
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (2, "", 2)


# From Python


def test_watch_takes_the_same_choice() -> None:
    with audit.watch(ignore=["never-cleared"]) as report:
        train(multiplied(1.0))
    assert (report.findings, report.ok) == ([], True)
    with pytest.raises(AuditError, match="select: unknown rule 'x'"), audit.watch(1, select=["x"]):
        pytest.fail("watches with an unknown rule")


def test_warn_takes_the_same_choice(warning_recorders: list[Any]) -> None:
    with pytest.raises(AuditError, match="did you mean 'never-cleared'"):
        audit.warn(ignore=["never-clear"])
    assert warning_recorders == []
    audit.warn(ignore=["never-cleared"])
    train(multiplied(1.0))  # a warning would be an error
    assert len(warning_recorders) == 1


@pytest.mark.usefixtures("warning_recorders")
def test_warn_records_what_a_chosen_rule_needs() -> None:
    audit.warn(1, select=["trained-in-eval-mode"])
    model = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Dropout(0.1)).eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def update() -> None:
        optimizer.zero_grad()
        model(torch.ones(4, 2)).square().mean().backward()
        optimizer.step()

    update()
    update()
    with pytest.warns(audit.GradientWarning, match="trained-in-eval-mode: "):
        update()
