"""The child processes of a comparison: one for every run, with its output in files, ended when asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import gradlab

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

END_TIMEOUT = 3.0  # seconds that processes may take to end after SIGTERM
OFFLINE = {  # switches of experiment trackers, whose uploads would repeat
    "WANDB_MODE": "offline",
    "COMET_OFFLINE": "1",
    "NEPTUNE_MODE": "offline",
    "CLEARML_OFFLINE_MODE": "1",
    "SWANLAB_MODE": "offline",
    "DVCLIVE_TEST": "true",
}
# Imports gradlab from where this process has it, then leaves sys.path to the script.
_CHILD = """
import sys
path, root = sys.path[:], sys.argv.pop(1)
sys.path[:] = [root, *filter(None, path)]
from gradlab.comparison import child
sys.path[:] = path
sys.exit(child.main(sys.argv[1]))
"""


def environment(mode: str, seed: int, run: Path, threads: int) -> dict[str, str]:
    """Return the environment variables of a run."""
    own = {
        "GRADLAB_MODE": mode,
        "GRADLAB_SEED": str(seed),
        "GRADLAB_RUN": str(run),
        "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "PYTHONHASHSEED": str(seed % 2**32),
        "PYTHONUNBUFFERED": "1",  # a script that is ended has printed all it wrote
    }
    return {**os.environ, **OFFLINE, **own}


class ScriptProcess:
    """A running child. Its output goes to files; its stdin is empty."""

    def __init__(self, job_file: Path, folder: Path, stdout: Path, stderr: Path, variables: Mapping[str, str]) -> None:
        with stdout.open("wb") as out, stderr.open("wb") as err:
            self._process = subprocess.Popen(  # noqa: S603 - it is our own module
                [sys.executable, "-c", _CHILD, str(Path(gradlab.__file__).absolute().parents[1]), str(job_file)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=dict(variables),
                start_new_session=True,  # Ctrl-C reaches only us, and we end it with all that it started
            )
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """The time since its start."""
        return time.monotonic() - self._started

    def status(self) -> int | None:
        """Return its exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def send(self, number: int) -> None:
        """Send a signal to it and to all that it started."""
        with suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it has ended, or for `timeout` seconds."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)


def end(processes: Iterable[ScriptProcess]) -> None:
    """End processes and all that they started: SIGTERM to all, then SIGKILL. An interrupt ends the time between."""
    ending = list(processes)
    for each in ending:
        each.send(signal.SIGTERM)
    until = time.monotonic() + END_TIMEOUT
    try:
        for each in ending:
            each.wait(max(0.0, until - time.monotonic()))
    finally:
        for each in ending:
            each.send(getattr(signal, "SIGKILL", signal.SIGTERM))
            each.wait()


def end_with_parent() -> None:
    """Make the kernel end this process when its parent ends, even if that is killed. Linux only."""
    if sys.platform != "linux":
        return
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
