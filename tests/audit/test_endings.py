"""However a script under the audit ends, and whatever signal comes when: one report, and Python's own exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from typer.testing import CliRunner

from gradlab.cli import app

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

AUDIT = [sys.executable, "-m", "gradlab", "audit"]


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
def write(report, status):
    print("begun", status)
    os.kill(os.getpid(), signal.SIGTERM)
    print("done")
audit("s.py", [], write, is_module=False, sample=None, strict=True)
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
