"""gradlab in a process of its own: forked from one that has loaded torch, or fresh where start-up is the claim.

A fresh process that trains spends seconds on `import torch`; a forked one starts within milliseconds. The fork server
is that of `multiprocessing`; it starts with the first process and ends with the tests.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from contextlib import contextmanager
from functools import partial
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PATIENCE = 100.0  # seconds: only what is broken takes as long
CLOSED = -1  # a standard stream that the caller has closed
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "torch",
        "gradlab.cli",
        "gradlab.runs",
        "gradlab.plotting",
        "gradlab.store",
        "gradlab.terminal.run_table",
        "gradlab.terminal.progress",
    ]
)


class Ended(NamedTuple):
    """A process that has ended.

    Attributes:
        status: its exit status; negative the signal that ended it.
        stdout: what it wrote there, "" where that was given away.
        stderr: as stdout.
    """

    status: int
    stdout: str
    stderr: str


class Process:
    """Work under way in a forked process; what it writes goes to files unless a stream is given."""

    def __init__(
        self,
        work: Callable[[], object],
        streams: dict[int, int] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        streams = streams or {}
        self._written = {number: tempfile.TemporaryFile() for number in (1, 2) if number not in streams}  # noqa: SIM115
        handles = {number: file.fileno() for number, file in self._written.items()} | streams
        with Path(os.devnull).open() as nothing:
            handles.setdefault(0, nothing.fileno())
            inherited = {number: handle if handle == CLOSED else _Handle(handle) for number, handle in handles.items()}
            given = work, inherited, str(Path.cwd()), environment or dict(os.environ)
            self._process = _FORKS.Process(target=_do, args=given)
            self._process.start()

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process.pid
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status; None as long as it runs."""
        return self._process.exitcode

    def read(self, number: int) -> str:
        """Return what it has written to stdout (1) or stderr (2) so far."""
        file = self._written.get(number)
        if not file:
            return ""
        return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self, timeout: float = PATIENCE) -> Ended:
        """Return how it ended.

        Raises:
            TimeoutError: it still runs.
        """
        self._process.join(timeout)
        if self.status is None:
            raise TimeoutError
        return Ended(self.status, self.read(1), self.read(2))

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait until something is true that this process brings about."""
        due = time.monotonic() + PATIENCE
        while not condition():
            assert self.status is None, (self.status, self.read(1), self.read(2))
            assert time.monotonic() < due, (self.read(1), self.read(2))
            time.sleep(0.01)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.join()
        for file in self._written.values():
            file.close()


def start(
    *words: str, stdin: int | None = None, stdout: int | None = None, stderr: int | None = None, **environment: str
) -> Process:
    """Start `gradlab WORDS` in the current folder, forked; a stream is a handle, or CLOSED, or (default) a file."""
    streams = {0: stdin, 1: stdout, 2: stderr}
    given = {number: handle for number, handle in streams.items() if handle is not None}
    return Process(partial(_gradlab, words), given, os.environ | environment)


def gradlab(*words: str, **options: Any) -> Ended:
    """Run gradlab to its end as `start` starts it."""
    with start(*words, **options) as process:
        return process.wait()


def fresh(*words: str, **environment: str) -> Ended:
    """Run gradlab to its end in a fresh interpreter, in the current folder and without a terminal."""
    done = subprocess.run(
        [sys.executable, "-m", "gradlab", *words], env=os.environ | environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


def on_a_terminal(*words: str, columns: int, **environment: str) -> Ended:
    """Run gradlab on a pseudo-terminal of that many columns; `stdout` is all that it wrote there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    written = b""
    try:
        with start(*words, **streams, **({"TERM": "xterm-256color"} | environment)) as process:  # type: ignore[arg-type]  # streams are handles
            os.close(theirs)
            while more := _read(ours):
                written += more
            return process.wait()._replace(stdout=written.decode())
    finally:
        os.close(ours)


def _read(terminal: int) -> bytes:
    """Return what comes next from the terminal; nothing where the other end is closed."""
    if not select.select([terminal], [], [], PATIENCE)[0]:
        return b""
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other end is closed
        return b""


@contextmanager
def broken_pipe() -> Iterator[int]:
    """Yield the end of a pipe whose reader has left."""
    reads, writes = os.pipe()
    os.close(reads)
    try:
        yield writes
    finally:
        os.close(writes)


class _Handle(NamedTuple):
    """A handle that a process inherits; it is passed on when the process starts."""

    number: int

    def __reduce__(self) -> Any:
        return _received, (DupFd(self.number),)


def _received(passed: Any) -> int:
    handle: int = passed.detach()
    return handle


def _gradlab(words: Sequence[str]) -> None:
    import gradlab.cli

    gradlab.cli.main(list(words))


def _do(work: Callable[[], object], handles: dict[int, int], folder: str, environment: dict[str, str]) -> None:
    """Do the work in the process that a shell would start."""
    for number, handle in handles.items():
        if handle == CLOSED:
            os.close(number)
        else:
            os.dup2(handle, number)
            os.close(handle)
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = folder  # as with `python -m`
    sys.stdin, sys.stdout, sys.stderr = _stream(0, "r"), _stream(1, "w"), _stream(2, "w", errors="backslashreplace")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    work()


def _stream(number: int, mode: str, errors: str | None = None) -> Any:
    """Return a standard stream as Python opens it: None where the caller has closed it."""
    try:
        buffering = 1 if number == 2 or os.isatty(number) else -1
        opened: IO[Any] = open(number, mode, buffering, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
    except OSError:
        return None
    return opened
