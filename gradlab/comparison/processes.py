"""The child processes of a comparison: one for every run, with its output in files, ended when asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

END_TIMEOUT = 3.0  # seconds a process may take to end after SIGTERM
OFFLINE = {  # switches of experiment trackers, whose uploads would repeat
    "WANDB_MODE": "offline",
    "COMET_OFFLINE": "1",
    "NEPTUNE_MODE": "offline",
    "CLEARML_OFFLINE_MODE": "1",
    "SWANLAB_MODE": "offline",
    "DVCLIVE_TEST": "true",
}


class ScriptProcess:
    """A running child. Its output goes to files; its stdin is empty."""

    def __init__(self, job_file: Path, folder: Path, stdout: Path, stderr: Path, environment: Mapping[str, str]) -> None:
        with stdout.open("wb") as out, stderr.open("wb") as err:
            self._process = subprocess.Popen(  # noqa: S603 - it is our own module
                [sys.executable, "-m", "gradlab.comparison.child", str(job_file)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=dict(environment),
                start_new_session=True,  # Ctrl-C reaches only us, and we end it
            )
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """The time since its start."""
        return time.monotonic() - self.started

    def status(self) -> int | None:
        """Return its exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def end(self) -> None:
        """End it and all it started: SIGTERM first, then SIGKILL."""
        self._send(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_TIMEOUT)
        self._send(getattr(signal, "SIGKILL", signal.SIGTERM))
        self._process.wait()

    def _send(self, number: int) -> None:
        with suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)


class Surroundings(NamedTuple):
    """What a run's environment variables say."""

    mode: str
    seed: int
    run: Path
    threads: int

    def environment(self) -> dict[str, str]:
        """Return the environment of a child."""
        own = {
            "GRADLAB_MODE": self.mode,
            "GRADLAB_SEED": str(self.seed),
            "GRADLAB_RUN": str(self.run),
            "MPLBACKEND": "Agg",
            "OMP_NUM_THREADS": str(self.threads),
            "MKL_NUM_THREADS": str(self.threads),
            "PYTHONHASHSEED": str(self.seed % 2**32),
            "PYTHONUNBUFFERED": "1",
        }
        return {**os.environ, **OFFLINE, **own}
