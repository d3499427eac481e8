"""Runs of a script in processes of their own, each in a copy of the script's folder, some at the same time."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gradlab.comparison import processes
from gradlab.comparison.job import ScriptJob, ScriptOutcome
from gradlab.errors import printable
from gradlab.runs import Progress, Stop, StoppedError
from gradlab.wording import duration

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from gradlab.comparison.copies import Source
    from gradlab.comparison.request import CompareRequest, ScriptPlan
    from gradlab.store import RunFolder

    Ends = Generator[tuple["ScriptTask", "ScriptEnd"]]

POLLED = 0.05  # seconds between two looks at running children
COUNTED = 1.0  # seconds between two counts of logged rows
LONGEST_ERROR = 4000  # characters of a traceback in a record
LONGEST_LINE = 300  # characters of the last line in a record
TAIL = 1 << 16  # bytes at the end of an output that are searched for its last line or traceback


class ScriptTask(NamedTuple):
    """A run that is to start.

    Attributes:
        plan: the run.
        into: the folder for its rows and output.
        most_passes: end the run before more backward passes than these.
        most_updates: end the run after this number of optimizer steps.
    """

    plan: ScriptPlan
    into: RunFolder
    most_passes: int | None = None
    most_updates: int | None = None


class ScriptEnd(NamedTuple):
    """The end of a run.

    Attributes:
        outcome: what the child reported.
        error: why the run failed; "" if it did not.
        last_line: the last line that the script printed to stdout.
        seconds: the time of the process.
    """

    outcome: ScriptOutcome
    error: str
    last_line: str
    seconds: float


class Runner(NamedTuple):
    """Runs tasks of a request."""

    request: CompareRequest
    source: Source
    progress: Progress
    stop: Stop

    def run(self, tasks: Iterable[ScriptTask], steps: int | None = None) -> Ends:
        """Run all tasks, as many at a time as requested, and yield each when it has ended.

        Args:
            tasks: the runs; each is started as soon as one before it has ended.
            steps: the expected number of backward passes of each.

        Raises:
            StoppedError: a stop was requested; all children are ended.
            CompareError: the folder cannot be copied.
        """
        waiting, running = iter(tasks), list[_Running]()
        at_once = 1 if self.request.in_place else self.request.jobs
        self.stop.checked_after_steps = True
        try:
            while True:
                if self.stop.requested:
                    rest = "" if self.request.fresh else "; the same command does the rest"
                    raise StoppedError(f"Stopped. Finished runs are kept{rest}.")
                if len(running) < at_once and (task := next(waiting, None)) is not None:
                    self.progress.on_start(task.plan.title, 1, steps)
                    running.append(self._start(task))
                    continue
                if not running:
                    return
                time.sleep(POLLED)
                running[0].show(self.progress)
                for each in [one for one in running if one.has_ended(self.request.timeout)]:
                    running.remove(each)
                    yield each.task, each.close(self.request)
        finally:
            self.stop.checked_after_steps = False
            try:
                processes.end(each.process for each in running)
            finally:  # a second interrupt leaves no copy behind
                for each in running:
                    each.stack.close()

    def _start(self, task: ScriptTask) -> _Running:
        request, plan = self.request, task.plan
        script = request.script
        with ExitStack() as stack:
            temporary = tempfile.TemporaryDirectory(prefix="gradlab-", ignore_cleanup_errors=True)
            scratch = Path(os.path.realpath(stack.enter_context(temporary)))
            folder = script.folder
            if not request.in_place:
                folder = scratch / (script.folder.name or "copy")
                self.source.copy_to(folder)
            job = ScriptJob(
                script=script.at,
                args=list(request.args),
                is_module=script.is_module,
                mode=None if plan.mode is None else plan.mode.name,
                mode_folder=str(Path.cwd()),
                seed=plan.seed,
                threads=request.threads,
                rows_file=str(task.into.rows_file.absolute()),
                outcome_file=str(scratch / "outcome.json"),
                only=request.only,
                most_passes=task.most_passes,
                most_updates=task.most_updates,
                original=str(script.folder),
            )
            job.write(scratch / "job.json")
            process = processes.ScriptProcess(
                scratch / "job.json",
                folder,
                task.into.stdout_file,
                task.into.stderr_file,
                processes.environment(plan.name, plan.seed, task.into.path.absolute(), request.threads),
            )
            return _Running(task, process, scratch, folder, stack.pop_all())


class _Running:
    """A task under way."""

    def __init__(
        self, task: ScriptTask, process: processes.ScriptProcess, scratch: Path, folder: Path, stack: ExitStack
    ) -> None:
        self.task, self.process, self.stack = task, process, stack
        self._scratch, self._folder = scratch, folder  # the latter: where the script works
        self._is_late = False
        self._counted, self._counted_at, self._read = 0, 0.0, 0  # rows, time, bytes

    def show(self, progress: Progress) -> None:
        """Report the number of logged rows every second."""
        if time.monotonic() - self._counted_at < COUNTED:
            return
        self._counted_at = time.monotonic()
        with suppress(OSError), self.task.into.rows_file.open("rb") as log:
            log.seek(self._read)
            new = log.read()
            self._read += len(new)
            self._counted += new.count(b"\n")
        if self._counted:
            progress.on_progress(self._counted)

    def has_ended(self, timeout: float | None) -> bool:
        """Say whether the process has ended; end it at the timeout."""
        if self.process.status() is not None:
            return True
        self._is_late = timeout is not None and self.process.seconds > timeout
        if self._is_late:
            processes.end([self.process])
        return self._is_late

    def close(self, request: CompareRequest) -> ScriptEnd:
        """End what the script left running, remove the copy, and return what the child reported."""
        with self.stack:
            processes.end([self.process])
            status, seconds = self.process.status() or 0, self.process.seconds
            try:
                outcome = ScriptOutcome.read(self._scratch / "outcome.json")
            except (OSError, ValueError, TypeError):
                outcome = ScriptOutcome(status or 1)
            last_line = next(
                filter(str.strip, reversed(self._tail(self.task.into.stdout_file, request).splitlines())), ""
            )
            error = self._error(outcome, status, request)
            return ScriptEnd(outcome, error, last_line.strip()[:LONGEST_LINE], seconds)

    def _error(self, outcome: ScriptOutcome, status: int, request: CompareRequest) -> str:
        if outcome.refused:
            return f"It cannot be compared: {outcome.refused}."
        if self._is_late:
            return f"Ended after {duration(request.timeout or 0)} (--timeout)."
        if outcome.ended or not (outcome.status or status):
            return ""
        text = self._tail(self.task.into.stderr_file, request).strip()
        begin = text.find("Traceback (most recent call last):")
        if text and begin >= 0:
            return text[begin:][-LONGEST_ERROR:]
        how = f"Ended by {_signal_name(-status)}." if status < 0 else f"Exit status {outcome.status or status}."
        return "\n".join([*text[-LONGEST_ERROR:].splitlines()[-5:], how])

    def _tail(self, output: Path, request: CompareRequest) -> str:
        """Return the end of an output, with the user's folder in place of the copy."""
        with suppress(OSError), output.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            text = file.read().decode(errors="replace").replace("\r", "\n")  # of progress bars
            return printable(text.replace(str(self._folder), str(request.script.folder)))
        return ""


def _signal_name(number: int) -> str:
    """Return the name of a signal, with the usual reason.

    >>> _signal_name(9)
    'SIGKILL (is the memory full?)'
    """
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return f"{name} (is the memory full?)" if name == "SIGKILL" else name
