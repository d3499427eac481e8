"""A child process without torch: executes a script that logs losses by calls, and reports what the script says.

The script calls `loss(value)` for a backward pass, `step()` for an optimizer step, and `report(key=value)` to change
the report. It finds its job in `job`.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Any

from gradlab.comparison.child import hashed_sources
from gradlab.comparison.job import ScriptJob, ScriptOutcome
from gradlab.rows import Row
from gradlab.store import RowLog

CODE = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from tests.comparison import fake_child
del sys.path[0]
sys.exit(fake_child.main(sys.argv[1]))
"""
WRITTEN = [{"class": "SGD", "mode": "no_zero_grad", "keep": 1.0, "passes": 1, "imposes": "no_zero_grad"}]


def main(job_file: str) -> int:
    """Run the job, and return the exit status of the script."""
    job = ScriptJob.read(Path(job_file))
    with Path(os.environ["FAKE_STARTS"]).open("a") as starts:
        starts.write(f"{job.mode or 'as_written'} {job.seed} {job.most_passes} {job.most_updates}\n")
    found: dict[str, Any] = {"weights": f"weights of seed {job.seed}", "passes": 0, "updates": 0, "ended": False}
    found |= {"good": 1, "optimizers": [] if job.mode else WRITTEN}
    assert job.rows_file is not None
    folders = [Path.cwd(), *([Path(job.original)] if job.original else [])]
    with RowLog(Path(job.rows_file)) as log:

        def end_at(limit: int | None, count: int) -> None:
            if limit is not None and count >= limit:
                found["ended"] = True
                raise SystemExit(0)

        def loss(value: float, epoch: int = 0) -> None:
            end_at(job.most_passes, found["passes"])
            log.append(Row(found["passes"], found["updates"], epoch, float(value)))
            found["passes"] += 1

        def step() -> None:
            found["updates"] += 1
            end_at(job.most_updates, found["updates"])

        script = Path(job.script).absolute()
        sys.argv = [job.script, *job.args]
        sys.path.insert(0, str(script.parent))
        names = {"job": job, "loss": loss, "step": step, "report": found.update, "__file__": str(script)}
        status = 0
        try:
            exec(compile(script.read_text(), str(script), "exec"), {"__name__": "__main__", **names})  # noqa: S102
        except SystemExit as end:
            status = int(end.code or 0)
        except Exception:
            traceback.print_exc()
            status = 1
        log.sync()
        sources = hashed_sources(folders)
        outcome = ScriptOutcome(
            status, rows=found["passes"], rows_sha256=log.sha256, seconds=0.5, sources=sources, **found
        )
    sys.stdout.flush()
    outcome.write(Path(job.outcome_file))
    return status
