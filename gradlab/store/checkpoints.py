"""Checkpoints of a run, two at the most: what it needs to go on, as bytes, each with their SHA-256 before them.

The hash tells every flipped bit. `torch.load` alone does not: most of a checkpoint are numbers, and any bits are one.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from gradlab.errors import DamagedError
from gradlab.store.files import read_bytes, write_bytes

if TYPE_CHECKING:
    from pathlib import Path

KEPT = 2  # the one before is used when the newest does not check out
_HEAD = re.compile(rb"gradlab checkpoint 1 ([0-9a-f]{64})\n")
_NAME = re.compile(r"checkpoint-(\d{1,18})\.pt")


def save_checkpoint(folder: Path, step: int, content: bytes) -> None:
    """Write a checkpoint after so many steps, whole or not at all, and remove all but the one before.

    Raises:
        StoreError: it cannot be written; those before are still there.
    """
    head = b"gradlab checkpoint 1 %s\n" % hashlib.sha256(content).hexdigest().encode()
    write_bytes(folder / f"checkpoint-{step}.pt", head + content)
    for old in checkpoints(folder)[KEPT:]:
        _remove(old)


def checkpoints(folder: Path) -> list[Path]:
    """Return the files of checkpoints, the one of the latest step first."""
    found = [(int(name[1]), file) for file in folder.glob("checkpoint-*.pt") if (name := _NAME.fullmatch(file.name))]
    return [file for _, file in sorted(found, reverse=True)]


def load_checkpoint(file: Path) -> bytes:
    """Return what was saved.

    Raises:
        DamagedError: it is not what was written.
        StoreError: it cannot be read.
    """
    content = read_bytes(file)
    head = _HEAD.match(content)
    if not head or hashlib.sha256(content[head.end() :]).hexdigest().encode() != head[1]:
        raise DamagedError(f"{file} is damaged: it is not what was written")
    return content[head.end() :]


def clear_checkpoints(folder: Path, after: int = 0) -> None:
    """Remove the checkpoints of later steps: all where the run is done or begins anew, else those not gone on from."""
    for file in checkpoints(folder):
        name = _NAME.fullmatch(file.name)
        if name and int(name[1]) > after:
            _remove(file)


def _remove(file: Path) -> None:
    with suppress(OSError):
        file.unlink(missing_ok=True)
