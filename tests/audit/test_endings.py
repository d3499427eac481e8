"""However a script under the audit ends, and whatever signal comes when: one report, and Python's own exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from gradlab.cli import app

if TYPE_CHECKING:
    from pathlib import Path

# Whoever starts the tests in the background may have switched SIGINT off for all that they start.
AUDIT = [
    sys.executable, "-c",
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from gradlab.cli import main; main()",
    "audit",
]  # fmt: skip


def run(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*AUDIT, *command], capture_output=True, text=True, check=False, timeout=60, **options)


def test_a_signal_that_comes_after_the_report_ends_the_process_as_it_does_without(folder: Path) -> None:
    (folder / "s.py").write_text(
        "import atexit, os, signal\natexit.register(os.kill, os.getpid(), signal.SIGTERM)\nprint(end='', flush=True)"
    )
    done = run("--json", "s.py")
    assert (json.loads(done.stdout)["exit_status"], done.returncode) == (0, -signal.SIGTERM)


def test_a_signal_that_comes_amid_the_report_lets_it_be_written_to_its_end(folder: Path) -> None:
    (folder / "s.py").write_text("")
    code = """
import os, signal
from gradlab.audit.command import audit
from gradlab.audit.running import Interrupts
def write(report, status):
    print("begun", status)
    os.kill(os.getpid(), signal.SIGTERM)
    print("done")
audit("s.py", [], write, Interrupts(), is_module=False, sample=None, strict=True)
print("goes on")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.returncode) == ("begun 0\ndone\n", 143)


def test_a_signal_that_comes_while_the_script_writes_to_stderr_is_reported_on_all_the_same(folder: Path) -> None:
    (folder / "s.py").write_text("import sys\nprint(flush=True)\nsys.stderr.write('x' * 10**6)\n")
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    buffered = {key: each for key, each in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with subprocess.Popen([*AUDIT, "s.py"], env=buffered, **pipes) as process:
        assert process.stdout
        process.stdout.read(1)
        time.sleep(0.3)  # now the pipe is full, and it waits within write()
        process.terminate()
        _, told = process.communicate()
    assert process.returncode == 143
    assert told.endswith(b"gradlab audit: nothing found\n  no optimizer was seen\n")


def test_an_interrupt_while_threads_are_waited_for_is_reported_on(folder: Path) -> None:
    (folder / "s.py").write_text(
        "import os, signal, threading, time\n"
        "def work():\n    time.sleep(0.3)\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(0.2)\n"
        "threading.Thread(target=work).start()\n"
    )
    done = run("--json", "s.py")
    assert (json.loads(done.stdout)["exit_status"], done.returncode) == (130, 130)
    assert done.stderr.endswith("KeyboardInterrupt\n")


INTERRUPTED_AT = {  # with the status that is reported, and that of the process
    "as the traceback of a first one is shown": (
        "sys.excepthook = lambda *_: os.kill(os.getpid(), signal.SIGINT)\nraise KeyboardInterrupt",
        130,
        130,
    ),
    "as the document is made": ("around(Report, 'as_json')", 0, 130),
    "as the document is written": ("around(Streams, 'answer')", 0, 130),
    "as the command ends": ("around(Streams, 'restore')", 0, 0),
    "where it would end the process": (
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\naround(Report, 'as_json')",
        0,
        130,
    ),
}


@pytest.mark.parametrize("when", INTERRUPTED_AT)
def test_an_interrupt_once_the_script_has_ended_costs_no_report_and_adds_no_document(folder: Path, when: str) -> None:
    what, reported, status = INTERRUPTED_AT[when]
    (folder / "s.py").write_text(
        f"""
import os, signal, sys
from gradlab.audit.command import Streams
from gradlab.audit.report import Report
def around(owner, name):
    own = getattr(owner, name)
    def call(self, *args):
        os.kill(os.getpid(), signal.SIGINT)
        result = own(self, *args)
        os.kill(os.getpid(), signal.SIGINT)
        return result
    setattr(owner, name, call)
{what}
"""
    )
    done = run("--json", "s.py")
    assert (json.loads(done.stdout)["exit_status"], done.returncode, done.stderr) == (reported, status, "")


def test_an_interrupt_is_heard_again_once_the_report_is_written(folder: Path) -> None:
    (folder / "s.py").write_text(
        "import atexit, os, signal\natexit.register(os.kill, os.getpid(), signal.SIGINT)\nprint('x', flush=True)"
    )
    done = run("s.py")
    assert (done.stdout, done.returncode) == ("x\n", 0)  # Python shows what an atexit function raises, and goes on
    assert done.stderr.endswith("KeyboardInterrupt: \n")


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("import sys; sys.exit('no such device')", 1, ["no such device"]),
        ("import sys; sys.exit(3)", 3, []),
        ("raise KeyboardInterrupt", 130, ["KeyboardInterrupt"]),
    ],
)
def test_what_a_package_above_the_module_ends_with_is_how_the_script_ends(
    folder: Path, line: str, status: int, said: list[str]
) -> None:
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").write_text(line)
    (folder / "package" / "train.py").write_text("")
    done = run("--json", "-m", "package.train")
    assert (json.loads(done.stdout)["exit_status"], done.returncode) == (status, status)
    assert done.stderr.splitlines()[-1:] == said
    assert ("Traceback" in done.stderr) is (status == 130)


def test_a_text_that_a_command_ends_with_is_said_and_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ends(*_: Any, **__: Any) -> None:
        sys.exit("no such device")

    monkeypatch.setattr(TyperGroup, "main", ends)
    for words, told in ((["modes"], ("", "no such device\n")), (["modes", "--json"], None)):
        with pytest.raises(SystemExit) as end:
            get_command(app).main(words)
        assert end.value.code == 1
        out, err = capsys.readouterr()
        if told:
            assert (out, err) == told
        else:
            assert json.loads(out) == {"error": {"message": "no such device", "exit_status": 1}}


def test_what_a_stream_cannot_encode_is_treated_as_python_was_told_to(folder: Path) -> None:
    (folder / "s.py").write_text("print('\\u00e9')", encoding="utf-8")
    done = run("s.py", env={**os.environ, "PYTHONIOENCODING": "ascii:replace"})
    assert (done.stdout, done.returncode) == ("?\n", 0)


def test_an_error_of_the_command_is_a_document_on_stdout(folder: Path) -> None:
    done = run("--json", str(folder / "nosuch.py"))
    assert (json.loads(done.stdout)["error"]["exit_status"], done.returncode, done.stderr) == (2, 2, "")


def test_an_option_of_the_script_is_not_taken_for_ours_where_there_is_no_script(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    for command in (
        ["nosuch.py", "--json"],
        ["--sample", "3", "-m", "nosuch", "--json"],
        ["--sample", "0", "x", "--json"],
    ):
        done = CliRunner().invoke(app, ["audit", *command])
        assert (done.stdout, done.exit_code) == ("", 2)
        assert "nosuch" in done.stderr or "--sample" in done.stderr
    for command in (["--json", "nosuch.py"], ["--sample", "3", "--json", "-m", "nosuch"], ["--json", "--sample", "0"]):
        done = CliRunner().invoke(app, ["audit", *command])
        assert (json.loads(done.stdout)["error"]["exit_status"], done.exit_code) == (2, 2)
