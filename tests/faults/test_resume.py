"""A killed run resumes bit for bit, with any task and at any moment."""

from __future__ import annotations

import io
import json
import os
import random
import resource
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from gradlab import experiment as experiments
from gradlab import runs, store
from gradlab.engines.resuming import CannotResumeError, Checkpoint
from gradlab.errors import StoreError
from gradlab.experiment import Experiment, Override
from gradlab.runs import job
from tests.faults.table import injected
from tests.making import RecordingProgress
from tests.table import MODES

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradlab.analysis.results import ExperimentResult
    from gradlab.rows import Row

# Tasks with state that a checkpoint must save or find: generators, buffers, batches with a count.
TASKS = '''
import random
import numpy as np
import torch
from torch import nn
from gradlab import Task
from gradlab.tasks import Minibatches

def data(n=23):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(n, 4, generator=generator), torch.randn(n, 1, generator=generator)

def net(*inner):
    return nn.Sequential(nn.Linear(4, 6), *inner, nn.Linear(6, 1))

def own_generator(seed):
    return Task.supervised(net(nn.Tanh()), Minibatches(*data(), 4, torch.Generator().manual_seed(seed)), nn.MSELoss())

def dropout_and_global_shuffle(seed):
    x, y = data()
    loader = torch.utils.data.DataLoader(list(zip(x, y)), batch_size=5, shuffle=True)
    return Task.supervised(net(nn.Dropout(0.3)), loader, nn.MSELoss())

def batch_norm(seed):
    return Task.supervised(net(nn.BatchNorm1d(6)), [data(8), data(12)], nn.MSELoss())

class Drawn:
    """Batches from the generators of Python, NumPy and torch; their number is unknown before."""

    def __init__(self, seed):
        self.numpy, self.python = np.random.default_rng(seed), random.Random(seed)
        self.torch = torch.Generator().manual_seed(seed)

    def __iter__(self):
        for _ in range(6):
            shift = self.numpy.normal() + self.python.random() + random.random() + np.random.random()
            yield torch.rand(3, 4, generator=self.torch) + shift, torch.rand(3, 1, generator=self.torch)

def all_generators(seed):
    return Task.supervised(net(nn.Dropout(0.1)), Drawn(seed), nn.MSELoss())

def pairs(seed):
    x, y = data()
    batches = [(x[:7], y[:7]), (x[7:9], y[7:9]), (x[9:20], y[9:20]), (x[20:], y[20:]), (x[:1], y[:1])]
    criterion = nn.MSELoss(reduction="sum")
    return Task(net(nn.Tanh()), batches, lambda model, batch: (criterion(model(batch[0]), batch[1]), len(batch[0])))
'''
EVALUATED = """
def evaluated(seed):
    task = dropout_and_global_shuffle(seed)
    validation = torch.utils.data.DataLoader(list(zip(*data(11))), batch_size=4, shuffle=True)
    metrics = {"noise": lambda model, batch: (random.random() + torch.rand(()), len(batch[0]))}
    return Task(task.model, task.batches, task.loss, validation=validation, metrics=metrics)
"""
NAMES = ["own_generator", "dropout_and_global_shuffle", "batch_norm", "all_generators", "pairs"]
OPTIMIZERS: list[dict[str, Any]] = [
    {"name": "SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.1},
    {"name": "Adam", "lr": 0.003},
    {"name": "vanilla", "lr": 0.01},
]
STEPS = 120


@pytest.fixture(autouse=True)
def _checkpoints_at_any_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "CHECKPOINT_SPACING", 0)


def chosen(task: str, modes: list[str], optimizer: dict[str, Any], **more: Any) -> Experiment:
    """Return an experiment with one of the tasks above and a checkpoint after nearly every row."""
    Path("mine.py").write_text(TASKS + EVALUATED)
    values = {"modes": modes, "steps": STEPS, "checkpoint_every": 0.01, "optimizer": optimizer, **more}
    return experiments.from_task(f"mine.py:{task}", [Override((key,), value, key) for key, value in values.items()])


def in_child(work: Callable[[], object]) -> int:
    """Call `work` in a forked process and return its id."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def rows_of(outcome: ExperimentResult) -> list[list[Row]]:
    assert [run.status for run in outcome.runs] == ["done"] * len(outcome.runs)
    return [run.rows for run in outcome.runs]


def killed(experiment: Experiment, out: Path, moment: float) -> bool:
    """Train in a child process, kill it after `moment` seconds, and return whether it was still training."""
    child = in_child(lambda: runs.run(experiment, out))
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def stopped(experiment: Experiment, step: int, out: Path = Path("runs")) -> Path:
    """Train, request a stop after `step` steps, and return the run's folder."""
    stop = runs.Stop()
    append = store.RowLog.append

    def appended(log: store.RowLog, row: Row) -> None:
        append(log, row)
        stop.requested = row.step + 1 == step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.RowLog, "append", appended)
        with pytest.raises(runs.StoppedError, match=f"after {step} steps"):
            runs.run(experiment, out, stop=stop)
    (record,) = out.glob("*/*/run.json")
    assert json.loads(record.read_text())["status"] == "interrupted"
    return record.parent


def resumed(experiment: Experiment) -> tuple[list[Row], RecordingProgress]:
    progress = RecordingProgress()
    (rows,) = rows_of(runs.run(experiment, Path("runs"), progress=progress))
    return rows, progress


def undisturbed(experiment: Experiment) -> list[Row]:
    (rows,) = rows_of(runs.run(experiment, Path("undisturbed")))
    return rows


def one() -> Experiment:
    return chosen("dropout_and_global_shuffle", ["accumulate:4"], OPTIMIZERS[1])


def evaluated() -> Experiment:
    """Return an experiment with an evaluation after every 20 of 120 steps."""
    return chosen("evaluated", ["halve_grad"], OPTIMIZERS[0], evaluate_every=20)


def evaluations_of(folder: Path) -> bytes:
    (file,) = folder.glob("*/*/evaluations.jsonl")
    return file.read_bytes()


def loaded(file: Path) -> Checkpoint:
    return Checkpoint.from_bytes(store.load_checkpoint(file))


# Killed


@pytest.mark.slow
@pytest.mark.parametrize("nth", range(len(MODES)))
def test_a_killed_run_ends_in_the_rows_of_an_undisturbed_one(nth: int) -> None:
    experiment = chosen(NAMES[nth % len(NAMES)], [MODES[nth]], OPTIMIZERS[nth % len(OPTIMIZERS)])
    expected = undisturbed(experiment)
    began = time.monotonic()
    runs.run(experiment, Path("undisturbed"), fresh=True)  # the first run took longer, since torch warms up
    lasted = time.monotonic() - began
    moments = random.Random(nth)  # noqa: S311 - not a secret
    kills = folder = 0
    while kills < 10:
        if killed(experiment, Path(f"runs{folder}"), lasted * moments.uniform(0.05, 0.8)):
            kills += 1
        else:
            folder += 1
        assert folder < 30, "too many runs end before they are killed"
    for nth_folder in range(folder + 1):
        assert rows_of(runs.run(experiment, Path(f"runs{nth_folder}"))) == [expected]
    injected("SIGKILL while training", kills)


def test_a_task_without_memory_fails_its_run_and_keeps_rows() -> None:
    Path("mine.py").write_text(
        TASKS + "\ndef hungry(seed):\n    task, seen = batch_norm(seed), []\n"
        "    def loss(model, batch):\n        seen.append(torch.empty(2**len(seen), 2**16))\n"
        "        return task.loss(model, batch)\n    return Task(task.model, task.batches, loss)\n"
    )
    experiment = experiments.from_task("mine.py:hungry", [Override(("modes",), ["zero_grad", "halve_grad"], "")])

    def starved() -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
        runs.run(experiment, Path("runs"))

    os.waitpid(in_child(starved), 0)
    found = [store.RunFolder(file.parent) for file in sorted(Path("runs").glob("*/*/run.json"))]
    assert [run.read().status for run in found] == ["failed", "failed"]
    assert all("allocate" in run.read().error and "mine.py" in run.read().error for run in found)
    assert all(len(run.rows().rows) > 3 for run in found)
    injected("out of memory", 2)


# Stopped


def test_a_stopped_run_resumes_and_leaves_no_checkpoint() -> None:
    folder = stopped(one(), 50)
    rows, progress = resumed(one())
    assert progress.done_steps == [50]
    assert progress.messages == []
    assert rows == undisturbed(one())
    assert sorted(file.name for file in folder.iterdir()) == ["metrics.jsonl", "run.json"]


def test_a_run_stopped_again_and_again_ends_in_the_same_rows() -> None:
    for step in (7, 8, 31, 119):
        stopped(one(), step)
    assert resumed(one())[0] == undisturbed(one())


def test_the_seconds_of_all_its_parts_are_counted() -> None:
    folder = stopped(one(), 60)
    saved = loaded(store.RunFolder(folder).checkpoints()[0])
    assert saved.seconds > 0
    resumed(one())
    assert (store.RunFolder(folder).read().seconds or 0) > saved.seconds


def test_what_is_trained_anew_goes_on_from_nothing() -> None:
    stopped(one(), 50)
    progress = RecordingProgress()
    runs.run(one(), Path("runs"), fresh=True, progress=progress)
    assert progress.done_steps == [0]


def test_the_rows_of_a_checkpoint_are_on_the_disk_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    sync, save = store.RowLog.sync, store.RunFolder.save_checkpoint

    def synced(log: store.RowLog) -> None:
        calls.append("rows")
        sync(log)

    def saved(folder: store.RunFolder, step: int, content: bytes) -> None:
        calls.append("checkpoint")
        save(folder, step, content)

    monkeypatch.setattr(store.RowLog, "sync", synced)
    monkeypatch.setattr(store.RunFolder, "save_checkpoint", saved)
    stopped(one(), 50)
    assert calls[calls.index("checkpoint") - 1] == "rows"


def test_a_stopped_fresh_run_says_how_to_continue() -> None:
    stopped(one(), 20)
    stop = runs.Stop(requested=True)
    with pytest.raises(runs.StoppedError, match="stopped between two runs"):
        runs.run(one(), Path("runs"), stop=stop)
    appended = store.RowLog.append
    stop = runs.Stop()

    def append(log: store.RowLog, row: Row) -> None:
        appended(log, row)
        stop.requested = row.step == 9

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.RowLog, "append", append)
        with pytest.raises(runs.StoppedError, match="after 10 steps; the same command without --fresh continues"):
            runs.run(one(), Path("runs"), fresh=True, stop=stop)
    assert resumed(one())[1].done_steps == [10]


def test_a_step_that_fails_on_a_stop_leaves_an_interrupted_run() -> None:
    stop = runs.Stop()

    class Dying(RecordingProgress):
        def on_start(self, *_: object, **__: object) -> None:
            stop.requested = True

    Path("mine.py").write_text(
        TASKS + "\ndef dying(seed):\n    def loss(model, batch):\n        raise RuntimeError('worker killed')\n"
        "    task = batch_norm(seed)\n    return Task(task.model, task.batches, loss)\n"
    )
    experiment = experiments.from_task("mine.py:dying")
    with pytest.raises(runs.StoppedError, match="during a step; the same command continues from its last checkpoint"):
        runs.run(experiment, Path("runs"), progress=Dying(), stop=stop)
    (record,) = Path("runs").glob("*/*/run.json")
    assert json.loads(record.read_text())["status"] == "interrupted"


def test_an_unreadable_checkpoint_is_kept_with_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store.RunFolder(stopped(one(), 90))
    rows = folder.rows_file.read_bytes()
    for fault in (MemoryError(), OSError(24, "Too many open files")):
        with monkeypatch.context() as patch:
            patch.setattr(torch, "load", lambda *_, fault=fault, **__: (_ for _ in ()).throw(fault))
            with pytest.raises(StoreError, match="cannot be read"):
                runs.run(one(), Path("runs"))
        assert folder.rows_file.read_bytes() == rows
    assert resumed(one())[1].done_steps == [90]


# Damaged, foreign or hostile checkpoints


def test_no_flipped_bit_of_a_checkpoint_is_loaded() -> None:
    (file, *_) = store.RunFolder(stopped(one(), 50)).checkpoints()
    content = file.read_bytes()
    bits = random.Random(0).sample(range(8 * len(content)), 200)  # noqa: S311 - not a secret
    for bit in bits:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        with pytest.raises(StoreError, match="is damaged"):
            store.load_checkpoint(file)
    injected("flipped bit in a checkpoint", len(bits))


def test_a_checkpoint_cut_off_anywhere_is_not_loaded() -> None:
    (file, *_) = store.RunFolder(stopped(one(), 50)).checkpoints()
    content = file.read_bytes()
    lengths = [*range(100), *range(100, len(content), 997)]
    for length in lengths:
        file.write_bytes(content[:length])
        with pytest.raises(StoreError, match="is damaged"):
            store.load_checkpoint(file)
    injected("truncated checkpoint", len(lengths))


def test_a_damaged_newest_checkpoint_falls_back_to_the_last() -> None:
    folder = stopped(one(), 50)
    stopped(one(), 90)
    newest, before = store.RunFolder(folder).checkpoints()
    newest.write_bytes(newest.read_bytes()[:-1])
    rows, progress = resumed(one())
    assert progress.done_steps == [int(before.stem.rpartition("-")[2])]
    assert "is damaged" in progress.messages[0]
    assert rows == undisturbed(one())
    injected("damaged newest checkpoint", 1)


@pytest.mark.parametrize(
    "content", [b"", b"no checkpoint", b"gradlab checkpoint 2 00\n"], ids=["empty", "text", "newer"]
)
def test_without_a_sound_checkpoint_the_run_starts_anew(content: bytes) -> None:
    for file in store.RunFolder(stopped(one(), 50)).checkpoints():
        file.write_bytes(content)
    rows, progress = resumed(one())
    assert progress.done_steps == [0]
    assert "retrained from the start" in progress.messages[-1]
    assert rows == undisturbed(one())
    injected("no usable checkpoint", 1)


def test_a_checkpoint_beyond_the_rows_that_are_left_is_not_used() -> None:
    folder = store.RunFolder(stopped(one(), 90))
    lines = folder.rows_file.read_bytes().splitlines(keepends=True)
    folder.rows_file.write_bytes(b"".join(lines[:40]))
    rows, progress = resumed(one())
    assert progress.done_steps == [0]
    assert any("it needs 90 rows, but the log has 40" in said for said in progress.messages)
    assert rows == undisturbed(one())
    injected("log shorter than the checkpoint", 1)


def test_rows_beyond_the_checkpoint_are_cut_off() -> None:
    folder = store.RunFolder(stopped(one(), 50))
    with folder.rows_file.open("ab") as log:
        log.write(b'{"step":50,"update":13,"epoch":10,"loss":1e9}\n{"step":51,"upd')
    rows, progress = resumed(one())
    assert progress.done_steps == [50]
    assert rows == undisturbed(one())
    injected("rows after the checkpoint", 1)


def test_evaluations_beyond_the_checkpoint_are_cut_off() -> None:
    folder = store.RunFolder(stopped(evaluated(), 60))  # the checkpoint comes before the evaluation after 60 steps
    assert [each.step for each in folder.evaluations().evaluations] == [20, 40]
    with folder.evaluations_file.open("ab") as log:
        log.write(b'{"step":60,"update":60,"epoch":9,"validation_loss":1e9,"noise":0.5}\n{"step":80,"upd')
    rows, progress = resumed(evaluated())
    assert progress.done_steps == [60]
    assert rows == undisturbed(evaluated())
    assert evaluations_of(Path("runs")) == evaluations_of(Path("undisturbed"))
    injected("evaluations after the checkpoint", 1)


def test_changed_evaluations_before_a_checkpoint_rule_it_out() -> None:
    for change in (lambda line: line.replace(b'"noise":', b'"noise":1'), lambda _: b""):
        folder = store.RunFolder(stopped(evaluated(), 90))
        first, *others = folder.evaluations_file.read_bytes().splitlines(keepends=True)
        assert len(others) == 3
        folder.evaluations_file.write_bytes(b"".join([change(first), *others]))
        rows, progress = resumed(evaluated())
        assert progress.done_steps == [0]
        assert any("the evaluations before it differ from those that" in said for said in progress.messages)
        assert rows == undisturbed(evaluated())
        assert evaluations_of(Path("runs")) == evaluations_of(Path("undisturbed"))
        shutil.rmtree(folder.path)
    injected("changed evaluation before the checkpoint", 2)


def test_changed_rows_before_a_checkpoint_rule_it_out() -> None:
    folder = store.RunFolder(stopped(one(), 90))
    lines = folder.rows_file.read_bytes().splitlines(keepends=True)
    lines[5] = b'{"step":5,"update":1,"epoch":1,"loss":7.5}\n'
    folder.rows_file.write_bytes(b"".join(lines))
    rows, progress = resumed(one())
    assert progress.done_steps == [0]
    assert any("the rows before it differ from those that were logged" in said for said in progress.messages)
    assert rows == undisturbed(one())
    injected("changed row before the checkpoint", 1)


@pytest.mark.parametrize("key", ["versions", "identity"])
def test_a_checkpoint_of_another_version_or_run_is_not_used(key: str) -> None:
    folder = store.RunFolder(stopped(one(), 50))
    saved = loaded(folder.checkpoints()[0])
    folder.clear_checkpoints()
    other: Any = {"torch": "1.0"} if key == "versions" else "another"
    folder.save_checkpoint(50, saved._replace(**{key: other}).to_bytes())
    rows, progress = resumed(one())
    assert progress.done_steps == [0]
    assert rows == undisturbed(one())
    injected("checkpoint of another version or run", 1)


def test_a_checkpoint_from_elsewhere_runs_no_code() -> None:
    folder = store.RunFolder(stopped(one(), 50))
    (file, *_) = folder.checkpoints()
    for hostile in (Runs("touch was_run"), {"step": 50, "state": Runs("touch was_run")}):
        saved = io.BytesIO()
        torch.save(hostile, saved)
        folder.save_checkpoint(50, saved.getvalue())
        with pytest.raises(CannotResumeError, match="is not a checkpoint"):
            loaded(file)
    resumed(one())
    assert not Path("was_run").exists()
    injected("hostile checkpoint", 2)


class Runs:
    """Runs a command when it is unpickled unsafely."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (self.command,)
