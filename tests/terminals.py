"""gradlab on a pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios

PATIENCE = 60.0  # seconds: only a broken gradlab takes as long


def on_a_terminal(*arguments: str, columns: int, **environment: str) -> tuple[int, str]:
    """Run gradlab on a pseudo-terminal of so many columns; return its exit status and all that it wrote there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "gradlab", *arguments], stdin=theirs, stdout=theirs, stderr=theirs,
        env=os.environ | {"TERM": "xterm-256color"} | environment,
    )  # fmt: skip
    os.close(theirs)
    written = b""
    try:
        while select.select([ours], [], [], PATIENCE)[0]:
            try:
                more = os.read(ours, 65536)
            except OSError:  # how Linux says that the other end is closed
                break
            if not more:
                break
            written += more
        return process.wait(PATIENCE), written.decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)
