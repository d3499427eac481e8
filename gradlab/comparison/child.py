"""The process of one run: executes the script as `__main__`, with a mode imposed, and logs its losses."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradlab import modes
from gradlab.audit.hooks.import_callback import call_when_imported
from gradlab.audit.script import running
from gradlab.comparison.job import ScriptJob, ScriptOutcome
from gradlab.comparison.processes import end_with_parent
from gradlab.errors import AuditError
from gradlab.store import RowLog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradlab.audit.recording.recorder import Recorder
    from gradlab.comparison.imposing import Imposing
    from gradlab.rows import Row


class ScriptRun:
    """The run of a job in this process."""

    def __init__(self, job: ScriptJob, stack: ExitStack) -> None:
        self.job, self.stack = job, stack
        self.folders = [Path.cwd(), *([Path(job.original)] if job.original else [])]  # the script may work elsewhere
        self.log = stack.enter_context(RowLog(Path(job.rows_file))) if job.rows_file else None
        self.rows = 0
        self.weights = ""
        self.imposing: Imposing | None = None
        self.recorder: Recorder | None = None
        self.started = 0.0

    def start(self) -> None:
        """Seed all generators, and wait for the imports of torch and numpy to seed theirs."""
        random.seed(self.job.seed)
        for name, do in (("numpy", self._seed_numpy), ("torch", self._start_torch)):
            if name in sys.modules:
                do()
            else:
                self.stack.callback(call_when_imported(name, do))
        self.started = time.perf_counter()

    def _seed_numpy(self) -> None:
        sys.modules["numpy"].random.seed(self.job.seed)

    def _start_torch(self) -> None:
        import torch

        from gradlab.comparison.imposing import Imposing, Limits

        job = self.job
        torch.set_num_threads(job.threads)
        torch.manual_seed(job.seed)
        mode = None if job.mode is None else modes.load(modes.parse(job.mode, Path(job.mode_folder)))
        limits = Limits(job.most_passes, job.most_updates)
        if mode is None:
            self._measure()
        self.imposing = Imposing(
            mode, self._append, only=job.only, limits=limits, on_start=self._hash_weights, on_swallowed=self._quit
        )
        self.stack.enter_context(self.imposing)

    def _measure(self) -> None:
        """Audit the script as it is written, which measures its mode."""
        from gradlab.audit.hooks import active
        from gradlab.audit.recording.recorder import Recorder

        self.recorder = Recorder(None)
        active.start(self.recorder)
        self.stack.callback(active.stop, self.recorder)

    def _append(self, row: Row) -> None:
        self.rows += 1
        if self.log is not None:
            self.log.append(row)

    def _hash_weights(self, imposing: Imposing) -> None:
        """Hash the weights before the first backward pass."""
        import torch

        digest = hashlib.sha256()
        for each in imposing.weights():
            digest.update(repr((each.dtype, tuple(each.shape))).encode())
            values = each.detach().cpu().resolve_conj().contiguous().view(-1)
            digest.update(values.view(torch.uint8).numpy().tobytes())  # numpy has no bfloat16
        self.weights = digest.hexdigest()

    def _quit(self) -> None:
        """End the process, because the script continued after SystemExit."""
        status = 2 if self.imposing is not None and self.imposing.refused else 0
        self.outcome(status).write(Path(self.job.outcome_file))
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)

    def outcome(self, status: int) -> ScriptOutcome:
        """Return the report of this run."""
        imposing = self.imposing
        found: dict[str, Any] = {}
        if imposing is not None:
            judged = imposing.optimizers.judged()
            found = {
                "refused": imposing.refused,
                "ended": imposing.ended,
                "passes": imposing.passes,
                "updates": imposing.updates,
                "good": judged.good,
                "faults": judged.faults,
                "doubts": imposing.doubts.found(imposing.optimizers),
                "remarks": imposing.doubts.remarks(),
            }
        if self.log is not None:
            self.log.sync()
        return ScriptOutcome(
            status=status,
            weights=self.weights,
            seconds=time.perf_counter() - self.started,
            rows=self.rows,
            rows_sha256=self.log.sha256 if self.log is not None else "",
            optimizers=self._measured(),
            sources=hashed_sources(self.folders),
            hints=_hints(self.job.threads),
            **found,
        )

    def _measured(self) -> list[dict[str, Any]]:
        if self.recorder is None or self.imposing is None:
            return []
        from gradlab.comparison.measuring import measured

        return measured(self.recorder.history, self.imposing.optimizers)


def hashed_sources(folders: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of all files of imported modules in these folders, by relative path.

    Installed packages, an environment within a folder and gradlab itself are left out: their versions are recorded.
    """
    found = {}
    roots = {root for folder in folders for root in (folder.absolute(), folder.resolve())}
    environments = [Path(each) for each in {sys.prefix, sys.base_prefix}]
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] == "gradlab" or not isinstance(file, str) or not file.endswith(".py"):
            continue
        path = Path(file)
        for root in roots if not {"site-packages", "dist-packages"} & {*path.parts} else ():
            within = [each for each in environments if each.is_relative_to(root)]
            if path.is_relative_to(root) and not any(map(path.is_relative_to, within)):
                with suppress(OSError):  # the script has deleted it
                    found[path.relative_to(root).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _hints(threads: int) -> list[str]:
    """Return what the script uses that may give other losses in a second run."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return []
    found = {
        "kernels of the GPU add in any order": torch.cuda.is_initialized(),
        f"it sets torch to {torch.get_num_threads()} threads": torch.get_num_threads() > threads,
    }
    return [hint for hint, holds in found.items() if holds]


def _end_script(_number: int, _frame: object) -> None:
    """End the script as sys.exit() would, so that what was found so far is reported."""
    raise SystemExit(128 + signal.SIGTERM)


def main(job_file: str) -> int:
    """Run the job in a file, and return the exit status of the script."""
    end_with_parent()
    signal.signal(signal.SIGTERM, _end_script)
    job = ScriptJob.read(Path(job_file))
    owner = os.getpid()
    with ExitStack() as stack:
        run = ScriptRun(job, stack)
        run.start()
        status = 1
        try:
            status = running.run(job.script, job.args, is_module=job.is_module)
        except KeyboardInterrupt:
            status = 130
        except AuditError as error:
            sys.stderr.write(f"{error}\n")
        finally:
            if os.getpid() == owner:
                for stream in (sys.stdout, sys.stderr):
                    stream.flush()
                run.outcome(status).write(Path(job.outcome_file))
    return status
