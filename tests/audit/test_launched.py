"""Ranks of a launcher give one report; what starts training in other processes is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

DISTRIBUTED = """
import os, sys
import torch
from torch import distributed
what, rank = sys.argv[1], int(os.environ["RANK"])
distributed.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for nth in range(6):
    if what == "right" or what == "one" and rank == 0:
        optimizer.zero_grad()
    model(torch.randn(8, 4)).square().mean().backward()
    optimizer.step()
    if what == "raises" and rank == 1 and nth == 4:
        raise ValueError("bad batch")
distributed.destroy_process_group()
if what == "killed" and rank == 1:
    os.kill(os.getpid(), 9)
print("done", flush=True)
"""


class Launched(NamedTuple):
    status: int
    stdout: str
    stderr: str

    @property
    def report(self) -> list[str]:
        """The lines of the report."""
        lines = self.stderr.splitlines()
        starts = [nth for nth, line in enumerate(lines) if line.startswith("gradlab audit: ")]
        assert len(starts) == 1, self.stderr
        rest = lines[starts[0] :]
        return rest[
            : 1 + max(nth for nth, line in enumerate(rest[:12]) if line.startswith((" ", "error", "SGD", "gradlab")))
        ]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield the folder for temporary files, and check that the audit leaves none there."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    assert [each.name for each in folder.iterdir() if each.name.startswith("gradlab")] == []


def launch(*command: str) -> Launched:
    """Run a launcher of this environment to its end."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name(command[0])), *command[1:]],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    return Launched(done.returncode, done.stdout, done.stderr)


def torchrun(*script: str, options: tuple[str, ...] = ()) -> Launched:
    Path("train.py").write_text(DISTRIBUTED)
    return launch("torchrun", "--nproc-per-node", "2", "-m", "gradlab", "audit", *options, "train.py", *script)


# Slow: real launchers


@pytest.mark.slow
@pytest.mark.usefixtures("temporary")
def test_torchrun_gives_one_report_and_its_status() -> None:
    right, faulty = torchrun("right"), torchrun("faulty")
    assert (right.status, right.stdout) == (0, "done\ndone\n")
    assert right.report[0] == "gradlab audit: nothing found"
    assert faulty.status == 1
    assert faulty.report[0] == "gradlab audit: 1 error"
    assert "  covers all ranks" in faulty.report
    assert "on rank" not in "\n".join(faulty.report)
    assert faulty.stderr.count("exitcode") == 2  # of torchrun's log and summary: of rank 0 alone
    assert "  traceback : gradlab audit: 1 error" in faulty.stderr
