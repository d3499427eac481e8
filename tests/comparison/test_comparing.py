"""Comparisons of a script: which runs there are, from what they start, and what is found about them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gradlab import modes
from gradlab.comparison import processes, records
from gradlab.comparison.comparing import Comparison
from gradlab.comparison.comparing import compare as compare_request
from gradlab.comparison.request import CompareRequest, find_script
from gradlab.errors import CompareError, NothingComparedError, StoreError
from gradlab.runs import Stop, StoppedError
from gradlab.store import ExperimentFolder, RowLog, RunFolder
from tests.comparison import fake_child
from tests.making import RecordingProgress

if TYPE_CHECKING:
    from gradlab.analysis.results import Result

# Ten steps. What is kept changes the loss, so each mode has a curve of its own, and no_zero_grad that of the script.
TRAINS = """
keep = {None: 1.0, "no_zero_grad": 1.0, "halve_grad": 0.5}.get(job.mode, 0.0)
for nth in range(10):
    loss(job.seed + 10 - nth * (1 - keep / 2), epoch=nth // 5)
    step()
print("done with", job.mode)
"""


@pytest.fixture(autouse=True)
def starts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Starts:
    """Replace the child by one without torch, and return what it starts."""
    monkeypatch.setattr(processes, "_CHILD", fake_child.CODE)
    file = folder.parent / f"starts of {folder.name}"
    monkeypatch.setenv("FAKE_STARTS", str(file))
    return Starts(file)


class Starts:
    def __init__(self, file: Path) -> None:
        self.file = file

    def take(self) -> list[str]:
        """Return mode, seed, most passes and most updates of each start since the last call."""
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        self.file.unlink(missing_ok=True)
        return lines


def compare(
    script: str = TRAINS,
    words: tuple[str, ...] = ("zero_grad", "no_zero_grad"),
    seeds: tuple[int, ...] = (1,),
    args: tuple[str, ...] = (),
    **settings: Any,
) -> Comparison:
    file = Path("train.py")
    if not file.exists() or file.read_text() != script:
        file.write_text(script)
    given = {key: settings.pop(key) for key in ("progress", "stop") if key in settings}
    parsed = tuple(map(modes.parse, words))
    request = CompareRequest(find_script("train.py", is_module=False), args, parsed, seeds, **settings)
    return compare_request(request, **given)


def named(runs: list[Result]) -> list[str]:
    return [f"{run.mode} {run.seed}" for run in runs]


# The runs


def test_runs_are_ordered_by_mode_then_seed() -> None:
    found = compare(seeds=(2, 1))
    assert named(found.runs) == [
        "as_written 1",
        "as_written 2",
        *[f"{m} {s}" for m in ("zero_grad", "no_zero_grad") for s in (1, 2)],
    ]
    assert found.ok
    assert (found.script, found.folder, found.notes) == ("train.py", Path("runs/train"), [])
    assert [run.first_loss for run in found.runs] == [11.0, 12.0] * 3


def test_the_unmodified_script_is_run_first_and_repeated(starts: Starts) -> None:
    compare()
    assert starts.take() == [
        "as_written 1 None None", "as_written 1 None 200", "zero_grad 1 20 None", "no_zero_grad 1 20 None",
    ]  # fmt: skip


def test_a_run_ends_at_twice_the_passes_of_the_script() -> None:
    script = "for nth in range(10 if job.mode is None else 1000): loss(1.0), step()"
    found = compare(script, ("zero_grad",))
    assert [run.steps for run in found.runs] == [10, 20]
    assert found.ok
    assert found.notes == ["zero_grad seed 1 was ended after 20 steps, 2 times those of as_written."]


def test_max_steps_ends_every_run_without_a_note() -> None:
    found = compare("while True: loss(1.0), step()", ("zero_grad",), most_passes=7)
    assert [run.steps for run in found.runs] == [7, 7]
    assert (found.ok, found.notes) == (True, [])


def test_the_number_of_runs_and_the_time_are_announced() -> None:
    progress = RecordingProgress()
    compare(progress=progress, seeds=(1, 2))
    assert progress.messages == ["6 runs; the 5 left and a second run of as_written take about 3 s."]
    assert sorted(progress.ends) == sorted(
        f"{mode} {seed} done" for mode in ("as_written", "zero_grad", "no_zero_grad") for seed in (1, 2)
    )


def test_the_second_run_counts_by_its_updates() -> None:
    progress = RecordingProgress()
    compare("for _ in range(400): loss(1.0), step()", ("zero_grad",), progress=progress)
    assert progress.messages == ["2 runs; the 1 left and a second run of as_written take about 0.75 s."]


def test_only_missing_runs_are_announced() -> None:
    compare(words=("zero_grad",))
    progress = RecordingProgress()
    compare(progress=progress)
    assert progress.messages == ["3 runs; the 1 left takes about 0.5 s."]


def test_seeds_that_are_not_run_are_not_announced() -> None:
    progress = RecordingProgress()
    compare("report(weights='same')" + TRAINS, ("zero_grad",), (5, 6, 7), progress=progress)
    assert progress.messages == ["2 runs; the 1 left and a second run of as_written take about 1 s."]


def test_two_runs_train_at_the_same_time() -> None:
    meets = """
import pathlib, time, sys
meeting = pathlib.Path(sys.argv[1]) / str(job.mode)
if job.mode:
    meeting.touch()
    while len(list(meeting.parent.iterdir())) < 2:
        time.sleep(0.01)
loss(1.0), step()
"""
    Path("meeting").mkdir()
    found = compare(meets, args=(str(Path("meeting").absolute()),), jobs=2, timeout=60.0)
    assert found.ok


# What a run gets


def test_a_run_has_its_environment_and_no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    names = [
        "GRADLAB_MODE",
        "GRADLAB_SEED",
        "MPLBACKEND",
        "OMP_NUM_THREADS",
        "WANDB_MODE",
        "HF_HUB_OFFLINE",
        "PYTHONHASHSEED",
    ]
    script = f"""
import os, sys
print(*(os.environ[name] for name in {names}), repr(sys.stdin.read()), sys.argv)
print("warned", file=sys.stderr)
run = os.environ["GRADLAB_RUN"]
loss(1.0), step()
assert os.path.exists(run + "/metrics.jsonl")
"""
    found = compare(script, ("halve_grad",), (3,), args=("--lr", "0.1"))
    folder = found.runs[1].folder
    line = "halve_grad 3 Agg 1 offline 0 3 '' ['train.py', '--lr', '0.1']"
    assert found.runs[1].compared["last_line"] == line
    assert (folder / "stdout.txt").read_text() == line + "\n"
    assert (folder / "stderr.txt").read_text() == "warned\n"


WRITES = """
import pathlib
assert pathlib.Path("data/input.txt").read_text() == "input"
assert not pathlib.Path("best.pt").exists()
pathlib.Path("best.pt").write_text("weights")
loss(1.0), step()
"""


def test_each_run_works_in_a_copy() -> None:
    Path("data").mkdir()
    Path("data/input.txt").write_text("input")
    assert compare(WRITES).ok
    assert sorted(each.name for each in Path.cwd().iterdir()) == ["data", "runs", "train.py"]


def test_a_link_that_leads_out_is_noted_before_the_runs(folder: Path) -> None:
    outside = folder.parent / f"outside of {folder.name}"
    outside.mkdir()
    Path("shared").symlink_to(outside)
    progress = RecordingProgress()
    compare(progress=progress)
    assert progress.messages[0] == ("1 link leads out of the copied folder: shared. What a run writes there stays.")


def test_a_script_in_the_folder_of_runs_is_copied(starts: Starts) -> None:
    Path("lab").mkdir()
    Path("lab/train.py").write_text(TRAINS)
    request = CompareRequest(find_script("lab/train.py", is_module=False), (), (modes.parse("zero_grad"),), (1,))
    for _ in range(2):
        assert compare_request(request, Path("lab")).ok
    assert len(starts.take()) == 3


def test_in_place_reports_what_changed() -> None:
    script = "open('best.pt', 'a').write('weights'); loss(1.0); step()"
    found = compare(script, in_place=True, jobs=4)
    assert Path("best.pt").exists()
    assert [note for note in found.notes if "1 file changed" in note and "best.pt" in note] == found.notes
    assert found.ok


# Finished runs


def test_finished_runs_are_reused(starts: Starts) -> None:
    compare(seeds=(1, 2))
    starts.take()
    found = compare(seeds=(1, 2))
    assert starts.take() == []
    assert all(run.cached for run in found.runs)
    assert [run.compared["imposed"] for run in found.runs] == ["yes"] * 6


def test_another_mode_alone_is_run(starts: Starts) -> None:
    compare()
    starts.take()
    assert named(compare(words=("zero_grad", "halve_grad")).runs) == ["as_written 1", "zero_grad 1", "halve_grad 1"]
    assert starts.take() == ["halve_grad 1 20 None"]


@pytest.mark.parametrize("change", ["script", "import", "args", "fresh", "versions"])
def test_runs_are_not_reused_after_a_change(change: str, starts: Starts, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("lib.py").write_text("factor = 1")
    script = "import lib\n" + TRAINS
    compare(script)
    starts.take()
    if change == "versions":
        monkeypatch.setattr(records, "installed_versions", lambda: {"torch": "3.0"})
    if change == "import":
        Path("lib.py").write_text("factor = 2")
    script = script + "\n" if change == "script" else script
    found = compare(script, args=("1",) if change == "args" else (), fresh=change == "fresh")
    assert len(starts.take()) == 4
    assert not any(run.cached for run in found.runs)


@pytest.mark.parametrize("line", ["os.chdir(os.sep)", "sys.path.insert(0, job.original)"])
def test_all_imports_of_the_script_are_hashed(line: str, starts: Starts) -> None:
    """After a change of the folder, and of a package that loads from the original folder."""
    Path("lib.py").write_text("factor = 1")
    script = f"import os, sys; sys.path.insert(0, os.getcwd())\n{line}\nimport lib\n{TRAINS}"
    compare(script)
    starts.take()
    Path("lib.py").write_text("factor = 2")
    assert not any(run.cached for run in compare(script).runs)


def test_a_file_beside_the_script_is_not_hashed(starts: Starts) -> None:
    compare()
    starts.take()
    Path("data.csv").write_text("1,2")
    compare()
    assert starts.take() == []


def test_runs_that_another_process_writes_are_refused() -> None:
    folder = compare().runs[0].folder
    record = RunFolder(folder).read()
    with RowLog(folder / "metrics.jsonl"):
        RunFolder(folder).write(record.__class__(**{**vars(record), "status": "running"}))
        with pytest.raises(StoreError, match="is being written by another gradlab"):
            compare()


def test_the_same_comparison_at_the_same_time_is_refused(starts: Starts) -> None:
    compare()
    starts.take()
    request = CompareRequest(find_script("train.py", is_module=False), (), (), (2, 1))  # seeds in another order
    with (
        ExperimentFolder(Path("runs/train")).locked(request.identity),
        pytest.raises(StoreError, match="another gradlab is doing the same"),
    ):
        compare(words=("halve_grad",))
    assert starts.take() == []
    assert compare(words=("halve_grad",)).ok
    assert not list(Path("runs/train").glob(".*"))


# Ends


def test_a_script_that_fails_at_once_is_not_run_again(starts: Starts) -> None:
    found = compare("import lib_that_is_missing")
    assert named(found.runs) == ["as_written 1"]
    assert not found.ok
    error = found.runs[0].error
    assert error.startswith("Traceback (most recent call last):")
    assert f'File "{Path.cwd()}/train.py", line 1' in error
    assert "No module named 'lib_that_is_missing'" in error
    assert len(starts.take()) == 1


def test_a_script_that_fails_late_keeps_its_rows() -> None:
    found = compare(TRAINS + "raise ValueError('no such folder')")
    assert named(found.runs) == ["as_written 1", "zero_grad 1", "no_zero_grad 1"]
    assert [(run.status, run.steps, run.verdict) for run in found.runs] == [("failed", 10, "falls")] * 3
    assert not found.ok
    assert all(run.error.endswith("ValueError: no such folder") for run in found.runs)


def test_a_run_that_fails_leaves_the_others() -> None:
    found = compare(TRAINS + "raise SystemExit(3 if job.mode == 'zero_grad' else 0)")
    assert [run.status for run in found.runs] == ["done", "failed", "done"]
    assert found.runs[1].error == "Exit status 3."


def test_a_killed_run_names_the_signal() -> None:
    found = compare("import os, signal; loss(1.0); os.kill(os.getpid(), signal.SIGKILL)")
    assert found.runs[0].error == "Ended by SIGKILL (is the memory full?)."


@pytest.mark.parametrize(("limit", "how"), [(None, "exited with 0"), (3, "ran for 3 backward passes")])
def test_without_steps_nothing_was_compared(limit: int | None, how: str) -> None:
    with pytest.raises(NothingComparedError, match=f"^train.py {how}, and no optimizer took a step"):
        compare("for _ in range(5): loss(1.0)", most_passes=limit)
    assert not Path("runs/train").exists()


def test_a_script_without_backward_passes_is_refused() -> None:
    with pytest.raises(CompareError, match=r"^train.py cannot be compared: its updates have no backward pass"):
        compare("for _ in range(5): step()")
    assert not Path("runs/train").exists()
    assert [run.status for run in compare("step(); raise SystemExit(4)").runs] == ["failed"]


def test_a_refused_script_leaves_no_folder(starts: Starts) -> None:
    with pytest.raises(CompareError, match=r"^train.py cannot be compared: LBFGS evaluates its closure\.$"):
        compare("report(refused='LBFGS evaluates its closure'); raise SystemExit(2)")
    assert len(starts.take()) == 1
    assert not Path("runs/train").exists()


def test_accumulation_is_refused_before_the_whole_script(starts: Starts) -> None:
    accumulates = TRAINS + "report(optimizers=[{'class': 'SGD', 'mode': 'accumulate:4', 'keep': 0.0, 'passes': 4}])"
    with pytest.raises(
        CompareError, match=r"'accumulate:2' needs .* train\.py accumulates 4 passes per update itself"
    ):
        compare(accumulates, ("zero_grad", "accumulate:2"))
    assert starts.take() == ["as_written 1 None 200"]
    assert compare(accumulates, ("zero_grad",)).ok
    with pytest.raises(CompareError, match="accumulates 4 passes"):
        compare(accumulates, ("accumulate:2",))


GAN = (
    TRAINS
    + """
report(optimizers=[
    {"number": 1, "class": "Adam", "mode": "zero_grad", "keep": 0.0, "passes": 1, "imposes": "zero_grad"},
    {"number": 3, "class": "SGD", "mode": "accumulate:2", "keep": 0.0, "passes": 2, "imposes": "zero_grad"},
])
"""
)


def test_accumulation_on_one_of_two_optimizers_is_suggested() -> None:
    with pytest.raises(CompareError) as caught:
        compare(GAN, ("accumulate:2",))
    assert str(caught.value) == (
        "mode 'accumulate:2' needs an update after every backward pass, but optimizer 3 (SGD) of train.py "
        "has 2 passes per update. Try --only-optimizer 1."
    )
    assert compare(GAN, ("accumulate:2",), only=1).ok
    with pytest.raises(CompareError, match=r"train\.py accumulates 2 passes per update itself"):
        compare(GAN, ("accumulate:2",), only=3)


def test_an_optimizer_that_takes_no_step_is_refused(starts: Starts) -> None:
    with pytest.raises(CompareError, match=r"2: train\.py makes no update with optimizer 2, only with 1 and 3$"):
        compare(GAN, ("zero_grad",), only=2)
    assert starts.take() == ["as_written 1 None None"]
    assert not Path("runs/train").exists()


def test_a_mode_that_was_not_imposed_fails_the_comparison() -> None:
    found = compare(TRAINS + "report(good=5, faults={'cleared': 3, 'replaced': 2}) if job.mode == 'zero_grad' else 0")
    imposed = {key: value for key, value in found.runs[1].compared.items() if key.startswith("imposed")}
    assert imposed == {"imposed": "no", "imposed_share": 0.5, "imposed_reason": "cleared; replaced"}
    assert not found.ok


@pytest.mark.parametrize(
    ("report", "how", "share", "reason"),
    [
        ("good=9, faults={'cleared': 1}", "approximate", 0.9, "cleared"),
        ("good=10, doubts=['a scheduler steps per batch']", "approximate", 1.0, "a scheduler steps per batch"),
        ("good=0", "no", 0.0, "optimizer 2 does not exist or took no step"),
    ],
)
def test_how_a_mode_was_imposed(report: str, how: str, share: float, reason: str) -> None:
    compared = compare(TRAINS + f"report({report})", ("zero_grad",), only=2).runs[1].compared
    assert (compared["imposed"], compared["imposed_share"], compared["imposed_reason"]) == (how, share, reason)


def test_a_timeout_keeps_the_rows_and_ends_grandchildren() -> None:
    sleeps = """
import subprocess, time
for nth in range(4):
    loss(4 - nth), step()
if job.mode:
    print(subprocess.Popen(["sleep", "600"]).pid)
    time.sleep(600)
"""
    found = compare(sleeps, ("zero_grad",), timeout=4.0)
    assert [(run.status, run.steps) for run in found.runs] == [("done", 4), ("failed", 4)]
    assert found.runs[1].error == "Ended after 4 s (--timeout)."
    assert not is_alive(int(found.runs[1].compared["last_line"]))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] not in "ZX"
    except OSError:
        return False


class StopsAt(RecordingProgress):
    """Requests a stop when this run starts."""

    def __init__(self, title: str, stop: Stop) -> None:
        super().__init__()
        self.title, self.requested = title, stop

    def on_start(self, title: str, runs: int, steps: int | None = None, **rest: Any) -> None:
        super().on_start(title, runs, steps, **rest)
        self.requested.requested = title == self.title


def test_a_stop_keeps_finished_runs_and_ends_children(starts: Starts, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = Stop()
    begun = time.monotonic()
    sleeps = TRAINS + "\nimport os, time\ntime.sleep(600 if job.mode and os.environ.get('SLEEP') else 0)"
    monkeypatch.setenv("SLEEP", "1")
    with pytest.raises(StoppedError, match="the same command does the rest"):
        compare(sleeps, progress=StopsAt("zero_grad seed 1", stop), stop=stop)
    monkeypatch.delenv("SLEEP")
    assert time.monotonic() - begun < 60
    assert [RunFolder(each.parent).read().status for each in sorted(Path("runs").glob("*/*/run.json"))] == [
        "done", "interrupted",
    ]  # fmt: skip
    starts.take()
    assert compare(sleeps).ok
    assert starts.take() == ["zero_grad 1 20 None", "no_zero_grad 1 20 None"]


def test_a_stop_under_fresh_keeps_the_runs_of_before() -> None:
    before = compare()
    stop = Stop()
    with pytest.raises(StoppedError, match=r"^Stopped. Finished runs are kept$"):
        compare(fresh=True, progress=StopsAt("zero_grad seed 1", stop), stop=stop)
    assert [RunFolder(run.folder).read().status for run in before.runs] == ["done", "interrupted", "done"]
    assert compare().ok


# Fairness


def test_a_script_that_seeds_itself_is_run_with_one_seed(starts: Starts) -> None:
    script = "report(weights='always these')" + TRAINS
    found = compare(script, ("zero_grad",), (5, 6, 7))
    assert named(found.runs) == ["as_written 5", "zero_grad 5"]
    (note,) = found.notes
    assert note.startswith("The script seeds itself: seeds 5 and 6 give the same initial weights.")
    assert "as_written 6 1 None" in starts.take()
    assert compare(script, ("zero_grad",), (5, 6, 7)).notes == found.notes
    assert starts.take() == []


RANDOM = """
import os
for nth in range(10):
    loss(10 - nth + (int.from_bytes(os.urandom(4), "big") / 2**40 if nth >= 6 else 0))
    step()
"""


def test_a_script_that_is_not_deterministic_is_noted(starts: Starts) -> None:
    found = compare(RANDOM, ("no_zero_grad",))
    (note,) = found.notes
    assert note.startswith(
        "The script is not deterministic: a second run of 10 steps differs from step 6 on (it depends"
    )
    repeat = found.runs[0].compared["repeat"]
    assert 0 < repeat["spread"] < 2**-8
    assert f"the losses differ by {repeat['spread']:.2g};" in note
    assert found.ok  # no_zero_grad differs from as_written, but so does as_written
    starts.take()
    assert compare(RANDOM, ("no_zero_grad",)).notes == [note]
    assert starts.take() == []


def test_the_reason_names_what_the_script_uses() -> None:
    note = compare(RANDOM + "report(hints=['it sets torch to 8 threads'])").notes[0]
    assert "differs from step 6 on (likely because it sets torch to 8 threads)" in note


@pytest.mark.parametrize(
    ("line", "fault", "note"),
    [
        ("report(weights=str(os.urandom(8)))", "weights", ""),
        (
            "report(weights=str(os.urandom(8))); loss(os.urandom(1)[0] + os.urandom(1)[0] / 256)",
            "weights",
            "its initial weights",
        ),
        ("loss(os.urandom(3)[0] + os.urandom(1)[0] / 256)", "loss", "its first batches differ"),
    ],
)
def test_runs_that_begin_differently_are_at_fault(line: str, fault: str, note: str) -> None:
    found = compare(f"import os\n{line}\n{TRAINS}", ("zero_grad",))
    (text,) = found.faults
    assert text.startswith(f"zero_grad seed 1 did not begin with the {fault} of as_written")
    assert not found.ok
    assert note in "".join(found.notes)


def test_imposing_the_own_mode_must_change_nothing() -> None:
    assert compare().faults == []
    harmed = TRAINS.replace('"no_zero_grad": 1.0', '"no_zero_grad": 0.99')
    (fault,) = compare(harmed).faults
    assert fault.startswith("no_zero_grad seed 1 differs from as_written from step 1 on, though this mode is what the")


def test_imposing_the_own_mode_must_not_change_the_length() -> None:
    (fault,) = compare(TRAINS + "if job.mode == 'no_zero_grad': loss(1.0)").faults
    assert fault.startswith("no_zero_grad seed 1 differs from as_written from step 10 on")
