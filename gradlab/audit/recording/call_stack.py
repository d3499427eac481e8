"""What is under way, as the call stack shows: steps, backward passes, handlers of signals."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from gradlab.audit.places import UNCOUNTED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from torch.optim import Optimizer


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - inspect.currentframe() is the same, and slower
    while frame is not None:
        yield frame
        frame = frame.f_back


def steps_under_way(optimizer: Optimizer | None) -> int:
    """Return how many calls of this optimizer's step, as torch wraps it, are on the stack."""
    return sum(
        frame.f_locals.get("self") is optimizer
        for frame in _frames()
        if frame.f_code.co_name == "wrapper" and frame.f_code.co_filename.endswith("optimizer.py")
    )


def passes_under_way() -> int:
    """Return how many backward passes that are listened to are on the stack of this thread."""
    return sum(frame.f_code.co_filename == UNCOUNTED and "backward" in frame.f_code.co_freevars for frame in _frames())


def is_of_signal_handler(error: Exception) -> bool:
    """Say whether an exception comes from a handler of a signal, which Python calls wherever it happens to be."""
    handlers = {getattr(signal.getsignal(each), "__code__", None) for each in signal.valid_signals()} - {None}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False
