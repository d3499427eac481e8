"""`python -m tests.faults.injecting CALL:ACTION[:FLAG] …`: the N-th system call of a run goes wrong, N = 1, 2, 3, …

As SQLite tests itself. A process that has imported all it needs forks a child for each N, in a folder of that number;
the child trains two runs, and its N-th CALL on a file below runs/ meets ACTION:

    an errno     it fails, once
    full         a write is cut short and every later one fails, with ENOSPC
    kill         SIGKILL: a write after half of its bytes, all others before they begin

What is left goes to left/; then the same command runs again in the same folder, with no fault. It ends with the first
N that a run does not reach, and prints a line of JSON an N. `limit` is no call: no file may grow beyond N × 90 bytes
(RLIMIT_FSIZE), whatever ACTION says. With the FLAG --fresh, the runs are done before and trained again by it; with
checkpoints, there is one run, with a checkpoint after each row.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
from contextlib import chdir, redirect_stdout, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import gradlab.cli
from gradlab.runs import job
from gradlab.store import RowLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradlab.rows import Row

COMMAND = ["run", "--task", "noisy_line", "--set", "name=line", "--steps", "3", "--quiet",
           "-m", "zero_grad", "-m", "accumulate:4"]  # fmt: skip
LONGER = ["--steps", "24"]  # more bytes of rows than of the record, for `limit`
CHECKPOINTS = [*COMMAND[:-4], "-m", "accumulate:4", "--set", "checkpoint_every=1e-9"]
LIMIT = 90  # bytes of a file a step of N


class Fault(NamedTuple):
    call: str  # of the module os, or limit
    action: str
    nth: int


def train_in_a_child(folder: Path, fault: Fault | None, command: list[str]) -> tuple[int, str]:
    """Run the command in a child, in `folder`; return its status, negative where a signal ended it, and its stderr."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(writes, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115 - as a child has them
        os.chdir(folder)
        train(fault, command)
    os.close(writes)
    with os.fdopen(reads) as pipe:
        told = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), told


def train_here(folder: Path, command: list[str]) -> None:
    """Run the command in this process: what it imports takes seconds, once for all children."""
    folder.mkdir(parents=True, exist_ok=True)
    with chdir(folder), redirect_stdout(sys.stderr), suppress(SystemExit):
        gradlab.cli.main(command)


def train(fault: Fault | None, command: list[str]) -> NoReturn:
    """Run the command with the fault in this process, and end it."""
    write_each_row_at_once()
    job.CHECKPOINT_SPACING = 0  # a checkpoint after each row, whatever it costs
    if fault:
        limit_files(fault.nth * LIMIT) if fault.call == "limit" else inject(fault)
    status: Any = 1
    try:
        gradlab.cli.main(command)
    except SystemExit as end:
        status = end.code
    finally:
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 1)


def write_each_row_at_once() -> None:
    """Leave nothing to chance: the same calls in the same order, whatever the time."""
    append = RowLog.append

    def append_and_flush(self: RowLog, row: Row) -> None:
        append(self, row)
        try:
            self.flush()
        except OSError:  # as in the thread that writes: told at the next row
            return

    RowLog.append = append_and_flush  # type: ignore[method-assign]  # in a child of its own


def limit_files(size: int) -> None:
    import resource

    Path("fired").touch()
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def inject(fault: Fault) -> None:
    """Let the N-th call of the module os go wrong, counting those on files below runs/ alone."""
    call: Callable[..., Any] = getattr(os, fault.call)
    kept = os.write
    calls = count(1)
    below = str(Path("runs").resolve())

    def faulty(*arguments: Any, **more: Any) -> Any:
        if not path_of(arguments[0]).startswith(below):
            return call(*arguments, **more)
        nth = next(calls)
        if nth < fault.nth or (nth > fault.nth and fault.action != "full"):
            return call(*arguments, **more)
        if nth == fault.nth:
            Path("fired").touch()
        if fault.call == "write" and nth == fault.nth and fault.action in ("full", "kill"):
            handle, content = arguments
            written = kept(handle, content[: len(content) // 2])
            if fault.action == "full":
                return written
        if fault.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        number = errno.ENOSPC if fault.action == "full" else getattr(errno, fault.action)
        raise OSError(number, os.strerror(number), None if isinstance(arguments[0], int) else str(arguments[0]))

    setattr(os, fault.call, faulty)


def path_of(what: int | str | os.PathLike[str]) -> str:
    """Return the path that a call is about: given as it is, or by a handle."""
    if isinstance(what, int):
        try:
            return os.readlink(f"/proc/self/fd/{what}")  # noqa: PTH115 - Path.readlink would name a pipe a path
        except OSError:
            return ""
    return os.path.abspath(what)  # noqa: PTH100 - resolve() would follow a link


def main(specs: list[str]) -> None:
    for spec in specs:
        call, action, *flags = spec.split(":")
        usual = [*COMMAND, *(LONGER if call == "limit" else [])]
        if flags == ["checkpoints"]:
            usual, flags = CHECKPOINTS, []
        undisturbed = Path(spec, "undisturbed").absolute()
        train_here(undisturbed, usual)
        for nth in count(1):
            folder = Path(spec, f"{nth:03}")
            if flags:
                shutil.copytree(undisturbed, folder)
            else:
                folder.mkdir()
            status, told = train_in_a_child(folder, Fault(call, action, nth), [*usual, *flags])
            fired = (folder / "fired").exists() and not (call == "limit" and status == 0)
            if (folder / "runs").exists():
                shutil.copytree(folder / "runs", folder / "left")
            again, told_again = train_in_a_child(folder, None, usual)
            seen = {"folder": str(folder), "status": status, "told": told, "again": again, "told_again": told_again}
            sys.stdout.write(json.dumps({**seen, "spec": spec, "fired": fired}) + "\n")
            sys.stdout.flush()
            if not fired:
                break


if __name__ == "__main__":
    main(sys.argv[1:])
