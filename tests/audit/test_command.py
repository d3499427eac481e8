"""`gradlab audit`: the `--json` document, the exit status, and one report however a script ends."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from gradlab.cli import app
from tests.audit.training import NEVER_CLEARING
from tests.processes import fresh, gradlab, start

pytestmark = pytest.mark.usefixtures("_main_restored")

REPOSITORY = Path(__file__).parents[2]

SCRIPT = """
import sys, torch
w = torch.ones(3, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.1)
for _ in range(9):
    w.square().sum().backward()
    optimizer.step()
    {after}
{end}
"""


ERROR, NOTE, NOTHING = "pass", "w.grad *= 0.5", "optimizer.zero_grad()"


def audited(folder: Path, *options: str, after: str, end: str = "") -> tuple[int, dict[str, Any]]:
    """Run a script with this code after each step and at its end; return the exit status and the document."""
    (folder / "s.py").write_text(SCRIPT.format(after=after, end=end))
    done = CliRunner().invoke(app, ["audit", "--json", *options, "s.py"])
    document: dict[str, Any] = json.loads(done.stdout)
    return done.exit_code, document


def shape(value: Any) -> Any:
    """Return the shape of a document: its keys in order, with the types of their values."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    return [shape(each) for each in value] if isinstance(value, list) else type(value)


OPTIMIZER = {
    "class": str,
    "parameters": int,
    "updates": int,
    "backwards_per_update": int,
    "keep": {"median": float, "min": float, "max": float},
    "mode": str,
}


FINDING = {
    "id": str,
    "severity": str,
    "since_update": int,
    "places": [{"file": str, "line": int}, {"file": str, "line": int}],
    "message": str,
    "instead": str,
}


def test_the_document_has_these_keys_and_no_others_on_each_level(folder: Path) -> None:
    _, document = audited(folder, after=ERROR)
    assert shape(document) == {
        "script": str,
        "exit_status": int,
        "optimizers": [OPTIMIZER],
        "findings": [FINDING],
        "nothing_audited": type(None),
        "remarks": [],
    }


def test_the_document_says_what_happened(folder: Path) -> None:
    _, document = audited(folder, after=ERROR)
    (optimizer,), (finding,) = document["optimizers"], document["findings"]
    keep = {"median": 1.0, "min": 1.0, "max": 1.0}
    summary = {"class": "SGD", "parameters": 1, "updates": 9, "backwards_per_update": 1, "keep": keep}
    assert optimizer == {**summary, "mode": "no_zero_grad"}
    assert (finding["id"], finding["severity"], finding["since_update"]) == ("never-cleared", "error", 2)
    source = (folder / "s.py").read_text().splitlines()
    lines = [nth for nth, line in enumerate(source, 1) if "backward()" in line or ".step()" in line]
    assert finding["places"] == [{"file": str(folder / "s.py"), "line": line} for line in lines]


def test_what_could_not_be_measured_is_null(folder: Path) -> None:
    _, document = audited(folder, after="w.grad = None; break")
    (optimizer,) = document["optimizers"]
    assert (optimizer["keep"], optimizer["mode"]) == (None, None)
    (folder / "s.py").write_text("import torch\nw = torch.ones(1, requires_grad=True)\ntorch.optim.SGD([w]).step()\n")
    (optimizer,) = json.loads(CliRunner().invoke(app, ["audit", "--json", "s.py"]).stdout)["optimizers"]
    assert optimizer["backwards_per_update"] is None


def documented() -> dict[str, Any]:
    """Return the document that docs/audit.md shows."""
    block = (
        (REPOSITORY / "docs" / "audit.md").read_text(encoding="utf-8").partition("```json\n")[2].partition("```")[0]
    )
    shown: dict[str, Any] = json.loads(block)
    return shown


def test_the_documentation_shows_each_key_of_the_document(folder: Path) -> None:
    _, document = audited(folder, after=ERROR)
    assert str(shape(documented())) == str(shape(document))  # as text, which shows the order of keys


@pytest.mark.parametrize(
    ("after", "end", "own", "strict", "forgiving"),
    [
        (NOTHING, "", 0, 0, 0),
        (ERROR, "", 0, 1, 0),
        (NOTE, "", 0, 0, 0),
        (NOTHING, "sys.exit(7)", 7, 7, 7),
        (ERROR, "sys.exit(7)", 7, 7, 7),
        (ERROR, "sys.exit(0)", 0, 1, 0),
        (ERROR, "1 / 0", 1, 1, 1),
    ],
    ids=["nothing", "an error", "a note alone", "its own", "its own and an error", "exit 0 and an error", "raises"],
)
def test_the_exit_status_is_the_scripts_own_else_1_for_findings(
    folder: Path, after: str, end: str, own: int, strict: int, forgiving: int
) -> None:
    (got, document), (forgiven, _) = (
        audited(folder, *given, after=after, end=end) for given in ((), ("--exit-zero",))
    )
    assert [each["severity"] for each in document["findings"]] == {ERROR: ["error"], NOTE: ["note"], NOTHING: []}[
        after
    ]
    assert (document["exit_status"], got, forgiven) == (own, strict, forgiving)


NO_TRAINING = {
    "nothing": "import sys",
    "no step": "import sys, torch\ntorch.optim.SGD([torch.ones(1, requires_grad=True)])",
    "another process": "import sys, subprocess\nsubprocess.run([sys.executable, '-c', 'import torch'])",
}


@pytest.mark.parametrize("source", NO_TRAINING.values(), ids=NO_TRAINING)
def test_without_a_step_the_exit_status_is_3(folder: Path, source: str) -> None:
    (folder / "s.py").write_text(source)
    done = CliRunner().invoke(app, ["audit", "s.py"])
    assert done.exit_code == 3
    assert done.stderr.startswith("gradlab audit: nothing audited\n  no optimizer ")
    assert CliRunner().invoke(app, ["audit", "--exit-zero", "s.py"]).exit_code == 0
    (folder / "s.py").write_text(source + "\nsys.exit(7)")
    assert CliRunner().invoke(app, ["audit", "s.py"]).exit_code == 7


@pytest.mark.parametrize(("end", "said"), [("", True), ("raise SystemExit(7)", False)], ids=["exit 0", "exit 7"])
def test_with_json_stderr_says_that_nothing_was_audited(folder: Path, end: str, said: bool) -> None:
    (folder / "s.py").write_text(end)
    done = CliRunner().invoke(app, ["audit", "--json", "s.py"])
    document = json.loads(done.stdout)
    assert (document["optimizers"], document["remarks"]) == ([], [])
    assert document["nothing_audited"].startswith("no optimizer was seen. Perhaps the script ")
    assert done.stderr.startswith("gradlab audit: nothing audited: no optimizer was seen. ") is said


@pytest.mark.parametrize("source", ["x = = 1", "1 / 0", "raise SystemExit(1)"], ids=["syntax", "raises", "exits"])
def test_a_failure_before_any_step_is_the_reason_given(folder: Path, source: str) -> None:
    (folder / "s.py").write_text(source)
    done = CliRunner().invoke(app, ["audit", "-o", "report.txt", "s.py"])
    reason = "  the script ended with exit status 1 before any optimizer took a step\n"
    assert done.stderr.endswith("gradlab audit: nothing audited\n" + reason)
    assert (folder / "report.txt").read_text() == "gradlab audit: nothing audited\n" + reason


@pytest.mark.parametrize(("after", "verdict"), [(ERROR, "1 error"), (NOTHING, "nothing found")])
def test_a_failure_after_steps_is_part_of_the_report(folder: Path, after: str, verdict: str) -> None:
    (folder / "s.py").write_text(SCRIPT.format(after=after, end="sys.exit(7)"))
    lines = CliRunner().invoke(app, ["audit", "s.py"]).stderr.splitlines()
    failure = "  the script ended with exit status 7; findings cover what came before"
    assert lines[:2] == [f"gradlab audit: {verdict}", failure]


SWALLOWS = """
import torch
w = torch.ones(3, requires_grad=True)
optimizers = [torch.optim.SGD([w], lr=0.1), torch.optim.Adam([w], lr=0.1)]
steps = caught = 0
for nth in range(9):
    try:
        optimizers[nth % 2].zero_grad()
        w.sum().backward()
        before = w.tolist()
        optimizers[nth % 2].step()
        steps += 1
    {clause}
        caught += 1
        print(caught, before == w.tolist(), flush=True)
        if caught == 3:
            raise
    finally:
        print(steps, flush=True)
print("after the loop", flush=True)
"""


@pytest.mark.parametrize("clause", ["except:", "except BaseException:", "except SystemExit:"])
def test_max_updates_ends_a_script_that_catches_its_exit(folder: Path, clause: str) -> None:
    (folder / "s.py").write_text(SWALLOWS.format(clause=clause))
    done = CliRunner().invoke(app, ["audit", "--max-updates", "4", "s.py"])
    caught = "1 False\n3\n2 True\n3\n3 True\n3\n"  # after the fourth update; then steps change nothing
    assert (done.stdout, done.exit_code) == ("1\n2\n3\n" + caught, 0)
    assert "  --max-updates ended the script after 4 updates\n" in done.stderr


def test_three_updates_are_too_few_and_four_are_enough(folder: Path) -> None:
    (folder / "s.py").write_text(SCRIPT.format(after=ERROR, end=""))
    few, enough = (CliRunner().invoke(app, ["audit", "--max-updates", each, "s.py"]) for each in ("3", "4"))
    assert "  only 3 updates were measured; most rules need at least 4\n" in few.stderr
    assert (enough.exit_code, "were measured" in enough.stderr) == (1, False)


def test_max_updates_counts_a_step_within_a_step_once(folder: Path) -> None:
    (folder / "s.py").write_text("""
import torch
w = torch.ones(3, requires_grad=True)
inner = torch.optim.SGD([w], lr=0.1)
class Outer(torch.optim.Optimizer):
    def step(self):
        inner.step()
        print("whole", flush=True)
outer = Outer([w], {})
while True:
    inner.zero_grad()
    w.sum().backward()
    outer.step()
""")
    done = CliRunner().invoke(app, ["audit", "--max-updates", "3", "s.py"])
    assert (done.stdout, done.exit_code) == ("whole\n" * 3, 0)


def test_a_script_that_ends_earlier_than_max_updates(folder: Path) -> None:
    exit_code, document = audited(folder, "--max-updates", "10", after=ERROR)
    assert (exit_code, document["optimizers"][0]["updates"]) == (1, 9)
    assert document["remarks"] == []
    exit_code, document = audited(folder, "--max-updates", "5", after=ERROR, end="1 / 0")
    assert document["remarks"] == ["--max-updates ended the script after 5 updates"]
    assert (exit_code, document["exit_status"], document["optimizers"][0]["updates"]) == (1, 0, 5)
    assert [each["id"] for each in document["findings"]] == ["never-cleared"]


# However a script ends


@pytest.mark.parametrize(
    ("end", "status", "shown"),
    [
        ("sys.exit('enough')", 1, "enough"),
        ("sys.exit(7)", 7, ""),
        ("w.backward(torch.ones(2))", 1, "RuntimeError: Mismatch"),
        ("raise KeyboardInterrupt", 130, "KeyboardInterrupt"),
        ("sys.excepthook = lambda *_: print('my own', file=sys.stderr); 1 / 0", 1, "my own"),
    ],
    ids=["exit with words", "exit", "raises", "interrupted", "its own hook"],
)
def test_however_a_script_ends_the_report_is_one_document(folder: Path, end: str, status: int, shown: str) -> None:
    (folder / "s.py").write_text(NEVER_CLEARING + end)
    done = CliRunner().invoke(app, ["audit", "--json", "s.py", "--json", "-x"])
    document = json.loads(done.stdout)
    assert (done.exit_code, document["exit_status"], document["script"]) == (status or 1, status, "s.py")
    assert [each["id"] for each in document["findings"]] == ["never-cleared"]
    assert f"__main__ {folder / 's.py'} ['--json', '-x'] {folder.name}\n" in done.stderr
    assert shown in done.stderr
    assert "gradlab" not in done.stderr


@pytest.mark.parametrize("args", [["nosuch.py"], ["."], ["-m", "nosuch"], ["-m", "nosuch.one"]], ids=" ".join)
def test_a_missing_script_is_reported_in_one_line(args: list[str]) -> None:
    done = CliRunner().invoke(app, ["audit", *args])
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-m", "s.py"], "'s.py' is a file; leave out -m, or use -m s"),
        (["-m", "./s.py"], "'./s.py' is a file; leave out -m, or use -m s"),
        (["-m", ""], "the name of the module is empty; give one such as package.module"),
        ([""], "the name of the script is empty; give a file, such as train.py"),
    ],
)
def test_a_wrong_name_runs_no_script(folder: Path, args: list[str], message: str) -> None:
    (folder / "s.py").write_text("print('runs')")
    done = CliRunner().invoke(app, ["audit", *args])
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"{message}\n")


def test_a_script_that_closes_stderr_keeps_its_report(folder: Path) -> None:
    (folder / "s.py").write_text(SCRIPT.format(after=ERROR, end="sys.stderr.close()"))
    done = fresh("audit", "s.py")
    assert (done.status, done.stdout) == (1, "")
    assert done.stderr.startswith("gradlab audit: 1 error\n")
    assert "instead: optimizer.zero_grad() before each loss.backward()\n" in done.stderr


def test_the_script_of_the_readme_gives_the_readmes_report(folder: Path) -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    source = text.partition("```py\n")[2].partition("```")[0]
    report = text.partition("```text\ngradlab audit")[2].partition("```")[0]
    (folder / "train.py").write_text(source)
    assert len(source.splitlines()) == 15
    done = CliRunner().invoke(app, ["audit", "train.py"])
    assert done.stderr == "gradlab audit" + report
    assert len(done.stderr.splitlines()) == 6
    assert (done.exit_code, done.stdout[:5]) == (1, "loss ")


NOT_THERE = [["nosuch.py"], ["--sample", "3", "-m", "nosuch"], ["--sample", "0", "nosuch.py"]]


@pytest.mark.parametrize("command", NOT_THERE, ids=" ".join)
def test_json_as_an_option_of_a_missing_script_is_not_ours(command: list[str]) -> None:
    done = CliRunner().invoke(app, ["audit", *command, "--json"])
    assert (done.stdout, done.exit_code) == ("", 2)
    assert "nosuch" in done.stderr or "--sample" in done.stderr


@pytest.mark.parametrize("command", [*NOT_THERE, ["--sample", "0"]], ids=" ".join)
def test_an_error_of_the_command_is_a_document_with_json(command: list[str]) -> None:
    done = CliRunner().invoke(app, ["audit", "--json", *command])
    assert (json.loads(done.stdout)["error"]["exit_status"], done.exit_code) == (2, 2)


@pytest.fixture
def _exits_with_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(*_: Any, **__: Any) -> None:
        sys.exit("no such device")

    monkeypatch.setattr(TyperGroup, "main", ends)


def exit_of(*words: str) -> object:
    """Return the exit code of the command."""
    with pytest.raises(SystemExit) as end:
        get_command(app).main(words)
    return end.value.code


@pytest.mark.usefixtures("_exits_with_words")
def test_a_command_that_exits_with_words_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of("modes") == 1
    assert capsys.readouterr() == ("", "no such device\n")


@pytest.mark.usefixtures("_exits_with_words")
def test_the_words_at_an_exit_are_a_document_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of("modes", "--json") == 1
    assert json.loads(capsys.readouterr().out) == {"error": {"message": "no such device", "exit_status": 1}}


# As processes: signals and streams


def test_sigterm_is_reported_by_the_script_and_not_by_its_fork(folder: Path) -> None:
    (folder / "s.py").write_text(
        "import os, signal, sys\nif os.fork() == 0:\n    os.kill(os.getpid(), signal.SIGTERM)\nprint(os.wait()[1])\n"
        "sys.stdout.close()\nos.kill(os.getpid(), signal.SIGTERM)\n1 / 0"
    )
    done = gradlab("audit", "--json", "s.py")
    assert (done.status, json.loads(done.stdout)["exit_status"]) == (143, 143)
    assert done.stderr.splitlines()[-1] == str(int(signal.SIGTERM))  # the signal that ended the child


def test_sigterm_while_the_script_writes_to_stderr_is_reported(folder: Path) -> None:
    (folder / "s.py").write_text("import sys\nprint(flush=True)\nsys.stderr.write('x' * 10**6)\n")
    (out, their_out), (err, their_err) = os.pipe(), os.pipe()
    with (
        os.fdopen(out, "rb") as stdout,
        os.fdopen(err, "rb") as stderr,
        start("audit", "s.py", stdout=their_out, stderr=their_err) as process,
    ):
        os.close(their_out)
        os.close(their_err)
        stdout.read(1)
        time.sleep(0.3)  # the pipe is full now, so the script waits in write()
        process.send(signal.SIGTERM)
        written = stderr.read()
        assert process.wait().status == 143
    assert b"gradlab audit: nothing audited\n  the script ended with exit status 143 before " in written


def test_an_interrupt_while_threads_are_waited_for_is_reported(folder: Path) -> None:
    (folder / "s.py").write_text(
        "import os, signal, threading, time\n"
        "def work():\n    time.sleep(0.3)\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(0.2)\n"
        "threading.Thread(target=work).start()\n"
    )
    done = gradlab("audit", "--json", "s.py")
    assert (json.loads(done.stdout)["exit_status"], done.status) == (130, 130)
    assert done.stderr.endswith("KeyboardInterrupt\n")


SIGNAL_AROUND = """
import os, signal, sys
from gradlab.audit.script.streams import Streams
from gradlab.audit.report import Report
def around(owner, name, number=signal.SIGINT):
    own = getattr(owner, name)
    def call(self, *args):
        os.kill(os.getpid(), number)
        result = own(self, *args)
        os.kill(os.getpid(), number)
        return result
    setattr(owner, name, call)
"""

SIGNALLED_AT = {  # code, reported status, status of the process
    "SIGINT as the traceback of a first one is shown": (
        "sys.excepthook = lambda *_: os.kill(os.getpid(), signal.SIGINT)\nraise KeyboardInterrupt",
        130,
        130,
    ),
    "SIGINT as the document is made": ("around(Report, 'result')", 0, 130),
    "SIGINT as the document is written": ("around(Streams, 'write_result')", 0, 130),
    "SIGINT as the command ends": ("around(Streams, 'restore')", 0, 3),
    "SIGINT where it would end the process": (
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\naround(Report, 'result')",
        0,
        130,
    ),
    "SIGTERM as the document is made": ("around(Report, 'result', signal.SIGTERM)", 0, 143),
    "SIGTERM as the document is written": ("around(Streams, 'write_result', signal.SIGTERM)", 0, 143),
}


@pytest.mark.parametrize("when", SIGNALLED_AT)
def test_a_signal_once_the_script_has_ended_costs_no_report(folder: Path, when: str) -> None:
    what, reported, status = SIGNALLED_AT[when]
    (folder / "s.py").write_text(SIGNAL_AROUND + what)
    done = gradlab("audit", "--json", "s.py")
    assert (json.loads(done.stdout)["exit_status"], done.status) == (reported, status)
    assert without_verdict(done.stderr) == ""


def without_verdict(text: str) -> str:
    """Return the stderr of a script that does not train, without the sentence that nothing was audited."""
    return "".join(line for line in text.splitlines(True) if not line.startswith("gradlab audit: nothing audited: "))


def test_stdout_is_given_back_for_an_error_of_the_command() -> None:
    done = gradlab("audit", "--json", "nosuch.py")
    assert (json.loads(done.stdout)["error"]["exit_status"], done.status, done.stderr) == (2, 2, "")


# As fresh processes: the start and the end of the interpreter


def test_what_is_printed_at_exit_leaves_json_alone_on_stdout(folder: Path) -> None:
    (folder / "s.py").write_text(
        "import atexit, os, subprocess, sys\natexit.register(print, 'late')\n"
        "subprocess.run([sys.executable, '-c', 'print(\"child\")'])\nos.write(1, b'raw\\n')\nsys.exit()\n"
    )
    done = fresh("audit", "--json", "s.py")
    document = json.loads(done.stdout)
    assert (document["script"], document["exit_status"], document["findings"]) == ("s.py", 0, [])
    assert without_verdict(done.stderr).split() == ["child", "raw", "late"]
    assert without_verdict(done.stderr) != done.stderr


def test_sigterm_after_the_report_ends_the_process_as_without(folder: Path) -> None:
    (folder / "s.py").write_text(
        "import atexit, os, signal\natexit.register(os.kill, os.getpid(), signal.SIGTERM)\nprint(end='', flush=True)"
    )
    done = fresh("audit", "--json", "s.py")
    assert (json.loads(done.stdout)["exit_status"], done.status) == (0, -signal.SIGTERM)


def test_an_interrupt_counts_again_after_the_report(folder: Path) -> None:
    (folder / "s.py").write_text(
        "import atexit, os, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # the test runner may ignore it\n"
        "atexit.register(os.kill, os.getpid(), signal.SIGINT)\nprint('x', flush=True)"
    )
    done = fresh("audit", "s.py")
    assert (done.stdout, done.status) == ("x\n", 3)  # Python shows an exception of an atexit function and continues
    assert done.stderr.endswith("KeyboardInterrupt: \n")


def test_a_stream_treats_what_it_cannot_encode_as_python_does(folder: Path) -> None:
    (folder / "s.py").write_text("print('\\u00e9')", encoding="utf-8")
    done = fresh("audit", "s.py", PYTHONIOENCODING="ascii:replace")
    assert (done.stdout, done.status) == ("?\n", 3)


# Slow: trainers of frameworks and compiled steps


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lightning", "accelerate", "transformers", "compiled_step"])
def test_max_updates_ends_a_training_of_a_framework(name: str) -> None:
    if name != "compiled_step":
        pytest.importorskip(name)
    script = Path(__file__).with_name("scripts") / f"right_{name}.py"
    done = fresh("audit", "--json", "--max-updates", "3", str(script))
    document = json.loads(done.stdout)
    assert (document["exit_status"], document["optimizers"][0]["updates"], done.status) == (0, 3, 0)
    assert "--max-updates ended the script after 3 updates" in done.stderr
