"""Where the report goes: one format on stdout or in a file, and none is lost."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gradlab import store
from gradlab.audit.history.history import History
from gradlab.audit.report import Report
from gradlab.audit.script.streams import Streams
from gradlab.cli import app
from gradlab.cli.audit_output import AuditOutput
from gradlab.cli.completion import complete_format
from gradlab.errors import StoreError
from tests.audit.reading import READERS
from tests.audit.training import NEVER_CLEARING
from tests.processes import gradlab

pytestmark = pytest.mark.usefixtures("_main_restored")

LINE = next(nth for nth, line in enumerate(NEVER_CLEARING.splitlines(), 1) if ".backward()" in line)
FOUND = ("s.py", LINE, "error", "never-cleared")


def audited(*options: str, end: str = "print('the script')") -> Any:
    """Audit a script that never clears and ends like this."""
    Path("s.py").write_text(f"{NEVER_CLEARING}\n{end}\n")
    return CliRunner().invoke(app, ["audit", *options, "s.py"])


@pytest.mark.parametrize("name", READERS)
def test_a_format_takes_stdout_and_the_script_gets_stderr(name: str) -> None:
    done = audited("--output-format", name)
    assert FOUND in READERS[name](done.stdout)
    assert done.stderr.endswith("the script\n")
    assert "gradlab" not in done.stderr
    assert done.exit_code == 1


def test_json_is_short_for_the_format() -> None:
    assert audited("--json").stdout == audited("--output-format", "json").stdout == audited(
        "--json", "--output-format=json"
    ).stdout  # fmt: skip


@pytest.mark.parametrize("name", [*READERS, "json"])
def test_a_file_takes_the_format_and_the_script_keeps_stdout(name: str) -> None:
    printed = audited("--output-format", name).stdout
    done = audited("--output-format", name, "-o", "report.out")
    assert Path("report.out").read_text() == printed
    assert done.stdout.endswith("the script\n")
    assert done.stderr == audited().stderr, "the full report"
    assert done.exit_code == 1


def test_without_a_format_the_file_takes_the_full_report() -> None:
    done = audited("--output-file", "report.txt", "--exit-zero")
    assert Path("report.txt").read_text() == done.stderr
    assert done.exit_code == 0
    assert [file.name for file in Path().iterdir() if "report" in file.name] == ["report.txt"]


def test_a_script_that_changes_the_folder_moves_no_file(folder: Path) -> None:
    (folder / "out").mkdir()
    audited("--output-format", "gitlab", "-o", "out/report.json", end="import os; os.chdir('out')")
    assert json.loads((folder / "out" / "report.json").read_text())[0]["location"]["path"] == "s.py"


def test_shells_complete_formats() -> None:
    assert complete_format("s") == ["sarif"]
    assert complete_format("") == ["full", "concise", "json", "github", "gitlab", "sarif", "junit"]


@pytest.mark.parametrize("name", READERS)
def test_the_limit_of_updates_is_no_mistake(name: str) -> None:
    Path("s.py").write_text(NEVER_CLEARING.replace("    w.sum", "    optimizer.zero_grad(); w.sum"))
    done = CliRunner().invoke(app, ["audit", "--max-updates", "3", "--output-format", name, "s.py"])
    (one,) = READERS[name](done.stdout)
    assert (one.severity, one.id, done.exit_code) == ("note", "audit-scope", 0)
    assert "max-updates" not in done.stderr, "the document has the remark"


# Errors, before the script runs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output-format", "sarf"], "unknown format 'sarf'; did you mean 'sarif'?"),
        (["--output-format", "sarif", "--json"], "--json and --output-format sarif contradict each other"),
        (["-o", "nosuch/a.json"], "-o nosuch/a.json: no folder 'nosuch'"),
        (["-o", "s.py/a.json"], "-o s.py/a.json: no folder 's.py'"),
        (["-o", "."], "-o . is a folder; give a file in it"),
        (["-o", ""], "-o . is a folder; give a file in it"),
        (["-o", "/dev/null"], "-o /dev/null is not a regular file"),
    ],
    ids=" ".join,
)
def test_a_wrong_option_ends_before_the_script_runs(options: list[str], message: str) -> None:
    done = audited(*options, end="open('ran', 'w').close()")
    said = done.stderr or json.loads(done.stdout)["error"]["message"]
    assert said.startswith(message)
    assert len(said.splitlines()) == 1
    assert done.exit_code == 2
    assert not Path("ran").exists()
    assert not Path("/dev/null").is_file()


def test_a_read_only_folder_is_an_error_before_the_script_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    done = audited("-o", "a.json")
    assert (done.exit_code, done.stderr) == (2, "-o a.json: the folder '.' is read-only\n")


@pytest.mark.parametrize("options", [["--output-format", "json"], ["--output-format=json"], ["-o", "x", "--json"]])
def test_an_error_is_a_document_with_the_json_format(options: list[str]) -> None:
    done = CliRunner().invoke(app, ["audit", *options, "nosuch.py"])
    assert (json.loads(done.stdout)["error"]["exit_status"], done.exit_code) == (2, 2)


def test_a_format_of_the_script_is_not_ours() -> None:
    done = CliRunner().invoke(app, ["audit", "nosuch.py", "--output-format", "json"])
    assert (done.stdout, done.exit_code) == ("", 2)


# Reports that cannot be written


LOST = "import shutil; shutil.rmtree('out')"


@pytest.mark.parametrize("name", READERS)
def test_a_report_that_cannot_be_written_goes_to_stderr(name: str, folder: Path) -> None:
    (folder / "out").mkdir()
    done = audited("--output-format", name, "-o", "out/report", end=LOST)
    report, _, document = done.stderr.partition(f"{folder}/out/report cannot be written: no such folder\n")
    assert report.splitlines()[0] == "gradlab audit: 1 error"
    assert FOUND in READERS[name](document)
    assert done.exit_code == 2


def test_the_full_report_is_not_printed_twice(folder: Path) -> None:
    (folder / "out").mkdir()
    done = audited("-o", "out/report", "--exit-zero", end=LOST)
    assert done.stderr.count("never-cleared") == 1
    assert done.exit_code == 2


@pytest.mark.parametrize(("end", "status"), [("; 1 / 0", 1), ("; raise KeyboardInterrupt", 130)])
def test_the_scripts_own_status_outranks_a_lost_file(end: str, status: int, folder: Path) -> None:
    (folder / "out").mkdir()
    assert audited("-o", "out/report", end=LOST + end).exit_code == status


def test_a_full_disk_loses_no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Path, _content: bytes) -> None:
        raise StoreError(f"{file} cannot be written: No space left on device")

    Path("report.json").write_text("before")
    monkeypatch.setattr(store, "write_bytes", full)
    done = audited("--json", "-o", "report.json")
    assert json.loads(done.stderr.partition("No space left on device\n")[2])["findings"][0]["id"] == "never-cleared"
    assert Path("report.json").read_text() == "before"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="of Linux")
def test_a_full_stdout_moves_the_report_to_stderr() -> None:
    Path("s.py").write_text(NEVER_CLEARING)
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = gradlab("audit", "--output-format", "sarif", "s.py", stdout=full.fileno())
    assert "error never-cleared, since update 2, at s.py:" in done.stderr
    assert done.stderr.endswith("Cannot write to stdout: No space left on device\n")
    assert done.status == 2


class BrokenStreams(Streams):
    """Streams whose stdout cannot be written."""

    def __init__(self, error: OSError) -> None:
        super().__init__(to_stderr=False)
        self.error = error

    def write_result(self, _text: str) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "first"),
    [(OSError(28, "No space left on device"), "gradlab audit: nothing audited\n"), (BrokenPipeError(), "")],
    ids=["full", "the reader left"],
)
def test_only_a_reader_that_left_gets_no_report(
    error: OSError, first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = AuditOutput("sarif", None, json=False)
    with pytest.raises(type(error)):
        output.write(Report(History()), BrokenStreams(error), "s.py", 0)
    written = capsys.readouterr().err
    assert written.startswith(first)
    assert bool(written) is bool(first)


# However a script ends

ENDS: dict[str, tuple[str, int]] = {
    "raises": ("1 / 0", 1),
    "exits": ("sys.exit(7)", 7),
    "interrupted": ("raise KeyboardInterrupt", 130),
    "SIGTERM": ("import os, signal; os.kill(os.getpid(), signal.SIGTERM); import time; time.sleep(9)", 143),
}


@pytest.mark.parametrize("end", ENDS)
def test_however_a_script_ends_the_file_is_written(end: str) -> None:
    code, status = ENDS[end]
    Path("s.py").write_text(f"{NEVER_CLEARING}\n{code}\n")
    done = gradlab("audit", "--output-format", "sarif", "-o", "report.sarif", "s.py")
    assert done.status == status
    log = Path("report.sarif").read_text()
    assert [each.id for each in READERS["sarif"](log)] == ["never-cleared", "script-failed"]
    assert json.loads(log)["runs"][0]["invocations"][0]["exitCode"] == status
    assert "gradlab audit: 1 error" in done.stderr


SIGNALLED = """
import os, signal
from gradlab import store
write = store.write_bytes
def signalled(file, content):
    os.kill(os.getpid(), signal.{name})
    write(file, content)
    os.kill(os.getpid(), signal.{name})
store.write_bytes = signalled
"""


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_as_the_file_is_written_costs_no_report(name: str, status: int) -> None:
    Path("s.py").write_text(NEVER_CLEARING + SIGNALLED.format(name=name))
    done = gradlab("audit", "--output-format", "sarif", "-o", "report.sarif", "s.py")
    assert READERS["sarif"](Path("report.sarif").read_text()) == [FOUND]
    assert done.status == status
    assert sorted(file.name for file in Path().iterdir()) == ["report.sarif", "s.py"]


def test_a_fork_of_the_script_writes_no_file() -> None:
    Path("s.py").write_text(
        "import os, signal\n"
        "if os.fork() == 0:\n    os.kill(os.getpid(), signal.SIGTERM)\n"
        "print(os.wait()[1], os.path.exists('report.txt'))\n"
    )
    done = gradlab("audit", "-o", "report.txt", "s.py")
    assert done.stdout == f"{int(signal.SIGTERM)} False\n"
    assert Path("report.txt").read_text() == done.stderr
