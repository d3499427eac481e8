"""Checkpoint files: the state of a run as bytes, preceded by their SHA-256.

The hash detects every flipped bit. `torch.load` does not: a flipped bit in a weight is still a valid number.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from gradlab.errors import DamagedError
from gradlab.store.files import read_bytes, write_bytes

if TYPE_CHECKING:
    from pathlib import Path

_HEAD = re.compile(rb"gradlab checkpoint 1 ([0-9a-f]{64})\n")


def write_checkpoint(file: Path, content: bytes) -> None:
    """Write a checkpoint atomically.

    Raises:
        StoreError: the file cannot be written.
    """
    write_bytes(file, b"gradlab checkpoint 1 %s\n" % hashlib.sha256(content).hexdigest().encode() + content)


def load_checkpoint(file: Path) -> bytes:
    """Return the content of a checkpoint.

    Raises:
        DamagedError: the content does not match its SHA-256.
        StoreError: the file cannot be read.
    """
    content = read_bytes(file)
    head = _HEAD.match(content)
    if not head or hashlib.sha256(content[head.end() :]).hexdigest().encode() != head[1]:
        raise DamagedError(f"{file} is damaged: its SHA-256 does not match")
    return content[head.end() :]
