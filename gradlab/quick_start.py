"""Importing torch with the garbage collector off, which finds nothing in what torch makes and takes long to look."""

from __future__ import annotations

import gc
import sys

OURS = False  # whether the process is gradlab's own, as its commands and workers are, and not a caller's


def import_torch() -> None:
    """Import torch once, and in a process of our own exclude what exists by then from later garbage collections.

    Torch brings some 170,000 objects, which stay. Collections would go through them several times during the import,
    now and then in a training, and once more at the end of the process.
    """
    if "torch" in sys.modules:
        return
    collecting = gc.isenabled()
    gc.disable()
    try:
        import torch  # noqa: F401 - this is what takes long

        if OURS:
            gc.freeze()
    finally:
        if collecting:
            gc.enable()
