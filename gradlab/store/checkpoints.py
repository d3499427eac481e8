"""The file of a checkpoint: what a run needs to resume, as bytes, with their SHA-256 before them.

The hash detects every flipped bit. `torch.load` alone does not: most of it are numbers, and any bits are a number.
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
    """Write a checkpoint, whole or not at all.

    Raises:
        StoreError: it cannot be written.
    """
    write_bytes(file, b"gradlab checkpoint 1 %s\n" % hashlib.sha256(content).hexdigest().encode() + content)


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
