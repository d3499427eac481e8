"""Runs of scripts in this process with a mode imposed."""

from __future__ import annotations

import os
import random
import runpy
import tempfile
import textwrap
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from gradlab import modes
from gradlab.comparison import records
from gradlab.comparison.imposing import Imposing
from gradlab.comparison.job import ScriptOutcome

if TYPE_CHECKING:
    from gradlab.comparison.imposing import Limits
    from gradlab.rows import Row


class ImposedRun(NamedTuple):
    """A script's run with a mode imposed."""

    imposing: Imposing
    rows: list[Row]
    left: dict[str, Any]  # the script's globals; empty if it ended early
    status: int  # of SystemExit

    @property
    def losses(self) -> list[float]:
        return [row.loss for row in self.rows]

    @property
    def good(self) -> int:
        return self.imposing.optimizers.judged().good

    @property
    def faults(self) -> dict[str, int]:
        return self.imposing.optimizers.judged().faults

    @property
    def judged(self) -> dict[str, Any]:
        """Return what run.json says of the mode."""
        imposing = self.imposing
        plan: Any = SimpleNamespace(mode=imposing.mode, settings={"only_optimizer": imposing.only})
        doubts = imposing.doubts.found(imposing.optimizers)
        return records.imposed(plan, ScriptOutcome(0, good=self.good, faults=self.faults, doubts=doubts))

    @property
    def share(self) -> float:
        return float(self.judged["imposed_share"])

    @property
    def imposed(self) -> str:
        """Return "refused", "nothing", "yes", "approximate" or "no"."""
        if self.imposing.refused:
            return "refused"
        if not any(each.calls for each in self.imposing.optimizers):
            return "nothing"
        return str(self.judged["imposed"])

    @property
    def reason(self) -> str:
        return self.imposing.refused or str(self.judged["imposed_reason"])


def run_script(file: Path, mode: str | None, *, only: int | None = None, limits: Limits | None = None) -> ImposedRun:
    """Run a script in this process, in an empty folder, as it is written if `mode` is None."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stack.callback(os.chdir, Path.cwd())
        os.chdir(folder)
        torch.manual_seed(0)
        random.seed(0)
        word = None if mode is None else modes.load(modes.parse(mode, file.parent))
        imposing = stack.enter_context(Imposing(word, rows.append, only=only, limits=limits))
        try:
            left, status = runpy.run_path(str(file), run_name="__main__"), 0
        except SystemExit as end:
            left, status = {}, end.code if isinstance(end.code, int) else 1
    return ImposedRun(imposing, rows, left, status)


HEAD = """
import torch
from torch import nn
torch.manual_seed(0)
x = torch.randn(32, 3)
y = x.sum(1, keepdim=True)
model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
loss_of = lambda: nn.functional.mse_loss(model(x), y)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
losses = []
"""


def run_source(source: str, mode: str | None, **options: Any) -> ImposedRun:
    """Run a script that follows HEAD; `mode` is as for run_script."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.py"
        file.write_text(HEAD + textwrap.dedent(source), encoding="utf-8")
        return run_script(file, mode, **options)
