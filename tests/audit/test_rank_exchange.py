"""Ranks of a launcher give one report, and the reporting rank never waits for one that has ended."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from gradlab import audit
from gradlab.audit.findings import Finding
from gradlab.audit.history.history import History
from gradlab.audit.history.keep import MeasuredKeep
from gradlab.audit.places import Place
from gradlab.audit.ranks import RankRecord, information_on, limits_on, merged_findings, merged_optimizers
from gradlab.audit.report import Report
from gradlab.audit.script import process_locks, rank_exchange
from gradlab.audit.script.rank import ALONE, Rank, rank_in
from gradlab.audit.script.rank_exchange import Exchange
from gradlab.audit.summary import OptimizerSummary
from tests.audit.training import multiplied, train
from tests.processes import Ended, Process, start

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = """
import os, sys, time, torch
rank = int(os.environ["RANK"])
w = torch.ones(3, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.1)
def train(faulty, steps=9):
    for _ in range(steps):
        if not faulty:
            optimizer.zero_grad()
        w.square().sum().backward()
        optimizer.step()
{what}
"""


# Ranks as processes, without a launcher


@pytest.fixture
def ranks(folder: Path) -> Iterator[Ranks]:
    with ExitStack() as stack:
        yield Ranks(folder, stack)
    left = [each.name for each in Path(tempfile.gettempdir()).glob("gradlab-audit-*")]
    assert not [name for name in left if name.endswith(keys_of(folder))]


def environment_of(folder: Path, rank: int, world: int = 2) -> dict[str, str]:
    """Return what torchrun sets."""
    error_file = folder / "attempt_0" / str(rank) / "error.json"
    error_file.parent.mkdir(parents=True, exist_ok=True)
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    return {name: str(number) for name, number in numbers.items()} | {"TORCHELASTIC_ERROR_FILE": str(error_file)}


def keys_of(folder: Path) -> str:
    return rank_in(environment_of(folder, 0)).key


class Ranks(NamedTuple):
    folder: Path
    stack: ExitStack

    def start(self, rank: int, what: str, *options: str, script: str = "s.py") -> Process:
        """Start one rank, which trains by `what`."""
        (self.folder / script).write_text(SCRIPT.format(what=what))
        return self.stack.enter_context(start("audit", *options, script, **environment_of(self.folder, rank)))  # type: ignore[arg-type]  # streams are handles

    def run(self, what: str, *options: str) -> tuple[Ended, Ended]:
        """Run two ranks to their end."""
        first, second = self.start(0, what, *options), self.start(1, what, *options)
        return first.wait(), second.wait()


def test_equal_findings_of_all_ranks_are_one(ranks: Ranks) -> None:
    reporting, silent = ranks.run("train(faulty=True)")
    assert (reporting.status, silent) == (1, Ended(0, "", ""))
    lines = reporting.stderr.splitlines()
    assert [line.partition(",")[0] for line in lines if not line.startswith(" ")] == [
        "gradlab audit: 1 error",
        "SGD: 1 parameter",
        "error never-cleared",
    ]
    assert "  covers all ranks" in lines
    assert "on rank" not in reporting.stderr


def test_torchrun_gets_the_reason_for_its_summary(ranks: Ranks) -> None:
    ranks.run("train(faulty=True)")
    message = json.loads((ranks.folder / "attempt_0" / "0" / "error.json").read_text())["message"]
    assert message["extraInfo"]["py_callstack"] == "gradlab audit: 1 error"
    assert not (ranks.folder / "attempt_0" / "1" / "error.json").exists()


def test_a_finding_of_another_rank_alone_says_so(ranks: Ranks) -> None:
    reporting, silent = ranks.run("train(faulty=rank == 1)", "--json")
    assert (reporting.status, silent) == (1, Ended(0, "", ""))
    document = json.loads(reporting.stdout)
    assert [each["mode"] for each in document["optimizers"]] == ["zero_grad", "no_zero_grad"]
    (found,) = document["findings"]
    assert found["id"] == "never-cleared"
    assert found["message"].endswith(" measured updates (on rank 1)")


def test_every_rank_keeps_the_status_of_its_own_script(ranks: Ranks) -> None:
    reporting, silent = ranks.run("train(faulty=True)\nsys.exit(7 + rank)")
    assert (reporting.status, silent) == (7, Ended(8, "", ""))
    assert "  rank 1: its script exited with status 8\n" in reporting.stderr
    assert not (ranks.folder / "attempt_0" / "0" / "error.json").exists()


def test_a_rank_that_is_killed_is_named(ranks: Ranks) -> None:
    began = time.monotonic()
    reporting, _ = ranks.run("train(faulty=True)\nif rank == 1: os._exit(9)")
    assert reporting.status == 1
    assert "  covers all ranks, except:\n  rank 1: ended without a record, as after a crash\n" in reporting.stderr
    assert time.monotonic() - began < rank_exchange.PATIENCE / 2


@pytest.mark.parametrize(("trains", "statuses"), [("rank == 1", (0, 0)), ("False", (3, 0))], ids=["one", "none"])
def test_nothing_is_audited_if_no_rank_takes_a_step(ranks: Ranks, trains: str, statuses: tuple[int, int]) -> None:
    reporting, silent = ranks.run(f"if {trains}: train(faulty=False)")
    assert (reporting.status, silent.status) == statuses
    assert ("nothing audited" in reporting.stderr) is (trains == "False")


def test_the_reporting_rank_exits_last(ranks: Ranks) -> None:
    first = ranks.start(0, "train(faulty=True)")
    late = "import multiprocessing.util\nmultiprocessing.util.Finalize(None, time.sleep, (2,), exitpriority=1)"
    second = ranks.start(1, f"train(faulty=True)\n{late}", script="late.py")
    first.wait_for(lambda: "never-cleared" in first.read(2))
    assert second.status is None
    assert first.wait().status == 1
    assert second.wait(0.5).status == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_for_other_ranks(ranks: Ranks, number: signal.Signals) -> None:
    second = ranks.start(1, "print('up', flush=True)\ntime.sleep(100)", script="hangs.py")
    second.wait_for(lambda: second.read(1))
    first = ranks.start(0, "train(faulty=True)\nprint('end', flush=True)")
    first.wait_for(lambda: first.read(1))
    time.sleep(0.5)
    assert first.status is None
    first.send(number)
    done = first.wait(20)
    assert done.status == 128 + number
    assert re.search(r"rank 1: sent no record within [1-9]\d? s\n", done.stderr)


def test_sigterm_of_the_launcher_leaves_one_report(ranks: Ranks) -> None:
    first = ranks.start(0, "train(faulty=True)\nprint('up', flush=True)\ntime.sleep(100)")
    first.wait_for(lambda: first.read(1))
    second = ranks.start(1, "train(faulty=True)\nprint('up', flush=True)\ntime.sleep(100)")
    second.wait_for(lambda: second.read(1))
    second.send(signal.SIGTERM)
    assert second.wait() == Ended(143, "up\n", "")
    first.send(signal.SIGTERM)
    done = first.wait()
    assert done.status == 143
    assert "  covers all ranks\n  rank 1: its script exited with status 143\n" in done.stderr


@pytest.mark.parametrize("rank", [0, 1])
def test_a_missing_script_leaves_no_folder(ranks: Ranks, rank: int) -> None:
    environment = environment_of(ranks.folder, rank)
    with start("audit", "nosuch.py", **environment) as process:  # type: ignore[arg-type]  # streams are handles
        done = process.wait()
    assert (done.status, len(done.stderr.splitlines())) == (2, 1)


# In this process


def exchanged(rank: Rank, status: int = 0) -> list[str]:
    """Return the remarks of a report, collected by this rank."""
    report = Report(History())
    assert Exchange(rank).collect(report, status, lambda: False)
    return report.history.remarks()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(rank_exchange, "PATIENCE", 0.2)
    monkeypatch.setattr(rank_exchange, "PATIENCE_AFTER_FAILURE", 0.1)
    return tmp_path


@pytest.mark.usefixtures("temporary")
def test_a_report_arrives_as_it_was_sent() -> None:
    with audit.watch(1) as sent:
        train(multiplied(1.0))
    sent.history.information.append("a remark")
    sent.history.notes.append("a limit")
    sent.history.faults.append("find: KeyError: 1")
    second = Exchange(Rank(1, 2, 1, 2, "key"))
    reporting, received = Exchange(Rank(0, 2, 0, 2, "key")), Report(History())
    assert second.collect(sent, 3, lambda: False) is False
    assert reporting.collect(received, 0, lambda: False) is True
    (got,) = received.other_ranks
    assert sent.findings
    assert got == RankRecord(
        1,
        3,
        True,
        tuple(sent.optimizers),
        tuple(sent.findings),
        (),
        ("a remark",),
        ("a limit",),
        ("find: KeyError: 1",),
    )
    assert (received.nothing_audited, received.ok) == (None, False)
    assert received.findings[0].message == f"{sent.findings[0].message} (on rank 1)"


@pytest.mark.usefixtures("temporary")
def test_a_rank_that_has_ended_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(rank_exchange, "PATIENCE", 100.0)
    Exchange(Rank(1, 2, 1, 2, "key"))  # a process does not see its own lock
    reason = folder / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(reason))
    exchange, report = Exchange(Rank(0, 2, 0, 2, "key")), Report(History())
    assert exchange.collect(report, 0, lambda: False)
    assert report.history.remarks()[1] == "rank 1: ended without a record, as after a crash"
    exchange.fail_last("why")
    assert json.loads(reason.read_text())["message"]["message"] == "why"
    exchange.fail_last("another")  # does not replace what the script wrote
    assert "another" not in reason.read_text()


@pytest.mark.usefixtures("temporary")
def test_without_locks_the_reporting_rank_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_locks, "_fcntl", None)
    Exchange(Rank(1, 2, 1, 2, "key"))
    assert exchanged(Rank(0, 2, 0, 2, "key"))[1] == "rank 1: sent no record within 1 s"


@pytest.mark.parametrize("status", [0, 1])
def test_a_rank_that_never_starts_is_named_in_time(temporary: Path, status: int) -> None:
    began = time.monotonic()
    remarks = exchanged(Rank(4, 8, 0, 3, "key"), status)
    assert remarks == [
        "covers ranks 4 to 6 of 8, those of this machine, except:",
        "ranks 5 to 6: sent no record within 1 s",
    ]
    assert (0.2, 0.1)[status] < time.monotonic() - began < 5
    assert list(temporary.iterdir()) == []


def test_a_rank_that_fails_leaves_the_files_of_others(temporary: Path) -> None:
    reporting, other = Exchange(Rank(0, 2, 0, 2, "key")), Exchange(Rank(1, 2, 1, 2, "key"))
    other.remove()
    assert sorted(each.name for each in temporary.glob("*/*")) == ["0.lock", "1.lock"]
    reporting.remove()
    assert list(temporary.iterdir()) == []


def test_a_record_of_an_earlier_start_is_ignored(temporary: Path) -> None:
    (temporary / "gradlab-audit-key").mkdir()
    old = temporary / "gradlab-audit-key" / "1.json"
    old.write_text("not even a record")
    Exchange(Rank(1, 2, 1, 2, "key"))
    assert not old.exists()


def test_without_a_folder_the_report_says_why(temporary: Path) -> None:
    (temporary / "gradlab-audit-key").write_text("a file")
    covers, missing = exchanged(Rank(0, 2, 0, 2, "key"))
    assert covers == "covers all ranks, except:"
    assert missing.startswith("rank 1: ")
    assert missing.endswith("gradlab-audit-key: File exists")
    other = Exchange(Rank(1, 2, 1, 2, "key"))
    assert other.collect(Report(History()), 0, lambda: False) is False


@pytest.mark.parametrize(
    "environment",
    [{}, {"RANK": "0"}, {"RANK": "0", "WORLD_SIZE": "1"}, {"RANK": "first", "WORLD_SIZE": "2"}],
    ids=["none", "no size", "one rank", "no number"],
)
def test_other_processes_are_alone(environment: dict[str, str]) -> None:
    assert rank_in(environment) == ALONE


def test_ranks_share_a_key_if_one_process_started_them_once(folder: Path) -> None:
    first, second = (rank_in(environment_of(folder, rank)) for rank in (0, 1))
    assert first.key == second.key
    restarted = str(folder / "attempt_1" / "0" / "error.json")
    assert rank_in({**environment_of(folder, 0), "TORCHELASTIC_ERROR_FILE": restarted}).key != first.key
    by_hand = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "29500"}
    assert rank_in(by_hand)[:4] == (1, 2, 1, 2)
    assert rank_in(by_hand).key == rank_in({**by_hand, "RANK": "0"}).key
    assert rank_in(by_hand).key != rank_in({**by_hand, "MASTER_PORT": "29501"}).key


def finding(message: str, line: int = 1, since: int = 1, severity: Any = "error") -> Finding:
    return Finding("never-cleared", severity, since, (Place("a.py", line),), message, "clear")


def record(rank: int, *found: Finding, optimizers: tuple[OptimizerSummary, ...] = (), **rest: Any) -> RankRecord:
    fields: dict[str, Any] = {"status": 0, "ignored": (), "information": (), "limits": (), "faults": ()} | rest
    return RankRecord(rank, audited=True, optimizers=optimizers, findings=found, **fields)


def test_findings_that_differ_in_numbers_are_one() -> None:
    merged = merged_findings(0, [finding("at 8 of 8", since=3)], {1: [finding("at 9 of 9", since=2)]})
    assert merged == [finding("at 8 of 8", since=2)]
    assert merged_findings(0, [finding("x", since=3)], {}) == [finding("x", since=3)]


def test_findings_that_differ_name_their_ranks() -> None:
    own = [finding("a"), finding("at 1.5 of layer 0")]
    others = {1: [finding("a")], 2: [finding("a"), finding("b", severity="note"), finding("c", line=2)]}
    assert [each.message for each in merged_findings(0, own, others)] == [
        "a",
        "at 1.5 of layer 0 (on rank 0)",
        "c (on rank 2)",
        "b (on rank 2)",
    ]


COMMENTED = """
import torch
w = torch.ones(3, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.1)
for _ in range(9):
    if not faulty:
        optimizer.zero_grad()
    w.square().sum().backward()
    optimizer.step()  # gradlab: ignore[never-cleared]
"""


@pytest.mark.parametrize("faulty", [(True, False), (False, True), (False, False)])
def test_a_comment_that_one_rank_uses_is_not_unused(folder: Path, faulty: tuple[bool, bool]) -> None:
    file, reports = folder / "s.py", []
    file.write_text(COMMENTED)
    for each in faulty:
        with audit.watch(1) as report:
            exec(compile(COMMENTED, str(file), "exec"), {"faulty": each})  # noqa: S102 - our own code
        reports.append(report)
    first, second = reports
    first.add_ranks(0, [record(1, *second.findings, ignored=tuple(second.ignored))])
    assert [each.id for each in first.findings] == ([] if any(faulty) else ["unused-ignore"])
    assert [each.id for each in first.ignored] == ["never-cleared"] * any(faulty)


def test_two_findings_of_one_rank_stay_two() -> None:
    layers = [finding("layer 0"), finding("layer 1")]
    assert merged_findings(0, layers, {1: layers}) == layers
    assert [each.message for each in merged_findings(0, layers, {1: layers[:1]})] == [
        "layer 0",
        "layer 1 (on rank 0)",
    ]


def summary(kind: str, keep: float, meaning: str) -> OptimizerSummary:
    return OptimizerSummary(kind, 1, 9, 1, MeasuredKeep(keep, keep, keep), None, meaning)


def test_optimizers_that_differ_only_in_keep_are_one() -> None:
    own = [summary("SGD", 0.5, "half")]
    assert merged_optimizers(0, own, [record(1, optimizers=(summary("SGD", 0.4, "less"),))]) == own
    unlike = record(1, optimizers=(summary("Adam", 0.5, "half"), summary("SGD", 0.1, "last")))
    assert [each.meaning for each in merged_optimizers(0, own, [unlike])] == [
        "half (on rank 0)",
        "half (on rank 1)",
        "last (on rank 1)",
    ]
    none: list[OptimizerSummary] = []
    assert [each.meaning for each in merged_optimizers(0, none, [unlike])] == ["half (on rank 1)", "last (on rank 1)"]


def test_remarks_of_other_ranks_are_told_once_with_their_ranks() -> None:
    for key, function in {"information": information_on, "limits": limits_on}.items():
        said: list[dict[str, Any]] = [{key: ("the same", f"watched {rank % 2}")} for rank in (1, 2, 3)]
        others = [record(rank, **each) for rank, each in enumerate(said, 1)]
        assert function(["the same"], others) == ["ranks 1, 3: watched 1", "rank 2: watched 0"]
    report = Report(History())
    report.add_ranks(0, [record(1, faults=("find: KeyError",), status=3, information=("ended",))])
    assert report.history.information == ["rank 1: ended"]
    assert report.history.limits() == ["rank 1: its script exited with status 3"]
    assert report.lines()[-1] == "the audit itself failed; first failure: rank 1: find: KeyError"


# Slow: real launchers

DISTRIBUTED = """
import os, sys
import torch
from torch import distributed
what, rank = sys.argv[1], int(os.environ["RANK"])
distributed.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for nth in range(6):
    if what == "right":
        optimizer.zero_grad()
    model(torch.randn(8, 4)).square().mean().backward()
    optimizer.step()
    if what == "raises" and rank == 1 and nth == 4:
        raise ValueError("bad batch")
distributed.destroy_process_group()
print("done", flush=True)
"""
ACCELERATED = """
import sys, torch
from accelerate import Accelerator
accelerator = Accelerator(cpu=True)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
data = torch.utils.data.DataLoader(torch.randn(48, 4), batch_size=4)
model, optimizer, data = accelerator.prepare(model, optimizer, data)
for x in data:
    if "faulty" not in sys.argv:
        optimizer.zero_grad()
    accelerator.backward(model(x).square().mean())
    optimizer.step()
assert accelerator.num_processes == 2
accelerator.end_training()
print("done", flush=True)
"""
ACCELERATE = ("--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no",
              "--dynamo_backend", "no", "--main_process_port", "0")  # fmt: skip


def launch(source: str, command: str, *words: str) -> Ended:
    """Run a launcher to its end."""
    Path("train.py").write_text(source)
    done = subprocess.run(
        [str(Path(sys.executable).with_name(command)), *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


def torchrun(what: str, *options: str) -> Ended:
    words = ["--nproc-per-node", "2", "-m", "gradlab", "audit", *options, "train.py", what]
    return launch(DISTRIBUTED, "torchrun", *words)


@pytest.mark.slow
def test_torchrun_prints_one_report_and_exits_with_1() -> None:
    right, faulty = torchrun("right"), torchrun("faulty", "--max-updates", "5")
    assert (right.status, sorted(right.stdout)) == (0, sorted("done\n" * 2))  # written at the same time
    assert right.stderr.count("gradlab audit: ") == right.stderr.count("gradlab audit: nothing found\n") == 1
    assert faulty.status == 1
    assert faulty.stderr.count("gradlab audit: 1 error\nSGD: ") == faulty.stderr.count("error never-cleared") == 1
    assert faulty.stderr.count("--max-updates ended the script after 5 updates\n") == 1
    summary = faulty.stderr.partition("gradlab FAILED")[2]
    assert summary.count("exitcode") == 1, "only rank 0 fails"
    assert "  traceback : gradlab audit: 1 error\n" in summary


@pytest.mark.slow
def test_torchrun_prints_one_report_if_a_rank_raises() -> None:
    done = torchrun("raises")
    assert done.status == 1
    assert done.stderr.count("gradlab audit: ") == 1
    assert "ValueError: bad batch" in done.stderr
    assert "rank 1: its script exited with status 1" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("what", "status", "head"), [("faulty", 1, "1 error"), ("right", 0, "nothing found")])
def test_accelerate_launch_prints_one_report(what: str, status: int, head: str) -> None:
    pytest.importorskip("accelerate")
    done = launch(ACCELERATED, "accelerate", "launch", *ACCELERATE, "-m", "gradlab", "audit", "train.py", what)
    assert (done.status, sorted(done.stdout)) == (status, sorted("done\n" * 2))
    assert done.stderr.count(f"gradlab audit: {head}\nSGD: ") == done.stderr.count("covers all ranks") == 1
