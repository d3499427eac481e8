"""The process of one run: what the script sees, and what the run reports. Executed in this process."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from gradlab.comparison import child
from gradlab.comparison.job import ScriptJob, ScriptOutcome
from gradlab.store import RunFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

TRAINS = """
import torch
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(6):
    model(torch.ones(3, 2)).square().mean().backward()
    optimizer.step()
"""


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore everything that a run takes over in this process."""
    monkeypatch.setattr(child, "end_with_parent", lambda: None)
    for name in ("argv", "excepthook"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def run(source: str, mode: str | None = None, **settings: Any) -> tuple[ScriptOutcome, list[float]]:
    """Run a script; return the report and the losses."""
    Path("train.py").write_text(source)
    folder = RunFolder(Path("run").absolute())
    folder.make()
    given: dict[str, Any] = {"seed": 1, "threads": 1} | settings
    job = ScriptJob(
        "train.py", ["--lr", "1"], False, mode, str(Path.cwd()), given.pop("seed"), given.pop("threads"),
        str(folder.rows_file), str(Path("outcome.json").absolute()), **given,
    )  # fmt: skip
    job.write(Path("job.json"))
    status = child.main("job.json")
    outcome = ScriptOutcome.read(Path("outcome.json"))
    assert outcome.status == status
    return outcome, [row.loss for row in folder.rows().rows]


def test_the_unmodified_script_is_measured() -> None:
    outcome, losses = run(TRAINS)
    assert (outcome.status, outcome.passes, outcome.updates, outcome.rows, len(losses)) == (0, 6, 6, 6, 6)
    assert [(each["class"], each["mode"], each["keep"], each["passes"]) for each in outcome.optimizers] == [
        ("SGD", "no_zero_grad", 1.0, 1)
    ]
    assert outcome.hints == outcome.doubts == []


def test_a_mode_is_imposed_from_the_same_start() -> None:
    written, losses = run(TRAINS)
    forgot, same = run(TRAINS, "no_zero_grad")
    cleared, others = run(TRAINS, "zero_grad")
    assert same == losses
    assert others[:2] == losses[:2]
    assert others[2:] != losses[2:]
    assert written.weights == forgot.weights == cleared.weights != ""
    assert (cleared.good, cleared.faults, cleared.optimizers) == (6, {}, [])


def test_own_modes_are_found_in_the_users_folder() -> None:
    Path("mine.py").write_text("def halves(parameters, update):\n    for p in parameters: p.grad = p.grad / 2")
    assert run(TRAINS, "mine.py:halves")[1] == run(TRAINS, "halve_grad")[1]


def test_all_generators_are_seeded() -> None:
    draws = "import random, numpy, torch\nprint(random.random(), numpy.random.rand(), torch.rand(1).item())\n"
    source = draws.replace("print(", "import json; json.dump([").replace(
        "item())", "item()], open('drawn.json', 'w'))"
    )
    drawn = []
    for seed in (1, 1, 2):
        run(source, seed=seed)
        drawn.append(json.loads(Path("drawn.json").read_text()))
    assert drawn[0] == drawn[1]
    assert all(one != other for one, other in zip(drawn[0], drawn[2], strict=True))


def test_other_seeds_have_other_weights() -> None:
    assert run(TRAINS, seed=1)[0].weights != run(TRAINS, seed=2)[0].weights


@pytest.mark.parametrize(("limit", "passes"), [({"most_passes": 4}, 4), ({"most_updates": 2}, 2)])
def test_a_limit_ends_the_script(limit: dict[str, int], passes: int) -> None:
    outcome, losses = run(TRAINS + "\nraise ValueError('not reached')", **limit)
    assert (outcome.status, outcome.ended, len(losses)) == (0, True, passes)


def test_a_script_that_fails_shows_its_own_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    outcome, losses = run(TRAINS + "\ndef helper():\n    raise ValueError('no folder')\n\nhelper()\n")
    assert (outcome.status, outcome.rows, len(losses)) == (1, 6, 6)
    lines = capsys.readouterr().err.splitlines()
    assert (lines[0], lines[-1]) == ("Traceback (most recent call last):", "ValueError: no folder")
    assert [line for line in lines if "gradlab" in line and "train.py" not in line] == []


def test_a_refused_script_says_why() -> None:
    outcome, _ = run(TRAINS.replace("optim.SGD", "optim.LBFGS").replace("step()", "step(lambda: torch.ones(()))"))
    assert outcome.status == 2
    assert "LBFGS" in outcome.refused


def test_imported_files_of_the_folder_are_hashed() -> None:
    Path("pack").mkdir()
    Path("pack/parts.py").write_text("SIZE = 2")
    outcome, _ = run("from pack.parts import SIZE")
    assert sorted(outcome.sources) == ["pack/parts.py", "train.py"]
    del sys.modules["pack.parts"], sys.modules["pack"]


def test_ctrl_c_within_the_script_is_its_end() -> None:
    assert run("raise KeyboardInterrupt")[0].status == 130


def test_sigterm_ends_the_script_with_a_report() -> None:
    outcome, losses = run(TRAINS + "\nimport os, signal\nos.kill(os.getpid(), signal.SIGTERM)\nraise ValueError")
    assert (outcome.status, outcome.updates, len(losses)) == (143, 6, 6)


def test_several_threads_are_a_hint() -> None:
    outcome, _ = run(TRAINS + "\ntorch.set_num_threads(2)")
    assert outcome.hints == ["it sets torch to 2 threads"]
    torch.set_num_threads(1)
