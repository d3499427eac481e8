"""Importing torch with the garbage collector off, which finds nothing in what torch makes and takes long to look."""

from __future__ import annotations

import gc
import sys


def import_torch() -> None:
    """Import torch, unless that is done, and leave all that is there by then out of later garbage collections.

    Torch brings some 170,000 objects, which are there to stay. Collections would go through them several times
    while it is imported, now and then in a training, and once more at the end of the process.
    """
    if "torch" in sys.modules:
        return
    collecting = gc.isenabled()
    gc.disable()
    try:
        import torch  # noqa: F401 - this is what takes long

        gc.freeze()
    finally:
        if collecting:
            gc.enable()
