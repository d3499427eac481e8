"""`python -m tests.faults.injecting CALL:ACTION[:FLAG] …`: make the N-th system call of a run fail, N = 1, 2, 3, …

SQLite is tested in the same way. A process with all imports forks a child for each N, in a folder of that number. The
child trains two runs, and ACTION happens at its N-th CALL on a file below runs/:

    an errno     the call fails once
    full         a write is cut short, and every later one fails with ENOSPC
    kill         SIGKILL: in a write after half of its bytes, in other calls before they start

The resulting files are copied to left/. Then the same command runs again in the same folder, without a fault. The
program ends with the first N that a run does not reach. It prints one line of JSON per N.

The CALL `limit` limits all files to N × 90 bytes (RLIMIT_FSIZE) and ignores ACTION. With the FLAG `--fresh`, the runs
are done before and retrained. With `checkpoints`, there is one run, with a checkpoint after each row. With
`evaluated`, it also has an evaluation after every second row and at its end.
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
LONGER = ["--steps", "24"]  # for `limit`: makes the rows larger than the record
CHECKPOINTS = [*COMMAND[:-4], "-m", "accumulate:4", "--set", "checkpoint_every=1e-9"]
EVALUATED = [*CHECKPOINTS, "--set", "evaluate_every=2"]
LIMIT = 90  # bytes per N


class Fault(NamedTuple):
    call: str  # a function of the module os, or limit
    action: str
    nth: int


def train_in_a_child(folder: Path, fault: Fault | None, command: list[str]) -> tuple[int, str]:
    """Run the command in a child process in `folder`; return its status, negative for a signal, and its stderr."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(writes, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115 - the child ends without closing them
        os.chdir(folder)
        train(fault, command)
    os.close(writes)
    with os.fdopen(reads) as pipe:
        stderr = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), stderr


def train_here(folder: Path, command: list[str]) -> None:
    """Run the command in this process, so that all children share the imports, which take seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    with chdir(folder), redirect_stdout(sys.stderr), suppress(SystemExit):
        gradlab.cli.main(command)


def train(fault: Fault | None, command: list[str]) -> NoReturn:
    """Run the command with the fault in this process, and exit."""
    write_each_row_at_once()
    job.CHECKPOINT_SPACING = 0  # a checkpoint after each row
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
    """Write every row at once, so that the order of calls does not depend on time."""
    append = RowLog.append

    def append_and_flush(self: RowLog, row: Row) -> None:
        append(self, row)
        try:
            self.flush()
        except OSError:  # as in the writing thread: the next row reports it
            return

    RowLog.append = append_and_flush  # type: ignore[method-assign]  # only in this child process


def limit_files(size: int) -> None:
    import resource

    Path("fired").touch()
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def inject(fault: Fault) -> None:
    """Make the N-th call of an os function fail, counting only calls on files below runs/."""
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
    """Return the path of a call's first argument, a path or a file handle."""
    if isinstance(what, int):
        try:
            return os.readlink(f"/proc/self/fd/{what}")  # noqa: PTH115 - Path.readlink would turn a pipe into a path
        except OSError:
            return ""
    return os.path.abspath(what)  # noqa: PTH100 - resolve() would follow a link


def main(specs: list[str]) -> None:
    for spec in specs:
        call, action, *flags = spec.split(":")
        usual = [*COMMAND, *(LONGER if call == "limit" else [])]
        if flags in (["checkpoints"], ["evaluated"]):
            usual, flags = CHECKPOINTS if flags == ["checkpoints"] else EVALUATED, []
        undisturbed = Path(spec, "undisturbed").absolute()
        train_here(undisturbed, usual)
        for nth in count(1):
            folder = Path(spec, f"{nth:03}")
            if flags:
                shutil.copytree(undisturbed, folder)
            else:
                folder.mkdir()
            status, stderr = train_in_a_child(folder, Fault(call, action, nth), [*usual, *flags])
            fired = (folder / "fired").exists() and not (call == "limit" and status == 0)
            if (folder / "runs").exists():
                shutil.copytree(folder / "runs", folder / "left")
            again, stderr_again = train_in_a_child(folder, None, usual)
            seen = {
                "folder": str(folder),
                "status": status,
                "stderr": stderr,
                "again": again,
                "stderr_again": stderr_again,
            }
            sys.stdout.write(json.dumps({**seen, "spec": spec, "fired": fired}) + "\n")
            sys.stdout.flush()
            if not fired:
                break


if __name__ == "__main__":
    main(sys.argv[1:])
