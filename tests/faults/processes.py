"""gradlab as a process, as the tests of faults start it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from typing import NamedTuple

PATIENCE = 60.0  # seconds: only a broken gradlab takes as long


class Ended(NamedTuple):
    status: int
    stdout: str
    stderr: str
    cpu: float  # seconds, of user and system


def gradlab(*arguments: str, **environment: str) -> Ended:
    """Run gradlab to its end in the current folder, and measure its time of the processor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "gradlab", *arguments], env=os.environ | environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Ended(done.returncode, done.stdout, done.stderr, cpu)


def shell(line: str) -> Ended:
    """Run a line of the shell in which $G is gradlab, and return the status of the line's last command."""
    done = subprocess.run(
        ["/bin/bash", "-c", line], env=os.environ | {"G": f"{sys.executable} -m gradlab"}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr, 0.0)
