"""Training in the caller's process: interrupts stop it; generators, threads and signals stay as they were."""

from __future__ import annotations

import random
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gradlab.errors import shown_in_notebook
from gradlab.runs import Stop, StoppedError
from gradlab.runs.setup import threads_at_import

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_one_at_a_time = threading.RLock()  # trainings seed the global generators


class TrainingInterrupt(KeyboardInterrupt):
    """An interrupt stopped a training."""

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows instead of a traceback through gradlab's files."""
        return shown_in_notebook(self)


@contextmanager
def training_session(*, keeps_files: bool = True) -> Iterator[Stop]:
    """Yield the `Stop` that an interrupt requests. At the end, generators, threads and signals are as before.

    Two sessions in different threads wait for one another.

    Raises:
        TrainingInterrupt: an interrupt stopped the training, after a step or between steps.
    """
    stop = Stop()
    with _one_at_a_time, _stop_on_interrupts(stop), _process_state_kept():
        try:
            yield stop
        except StoppedError as stopped:
            raise TrainingInterrupt(str(stopped) if keeps_files else "stopped") from None
        except KeyboardInterrupt:
            raise TrainingInterrupt(
                "stopped at once; the same call does the rest" if keeps_files else "stopped"
            ) from None


@contextmanager
def _stop_on_interrupts(stop: Stop) -> Iterator[None]:
    """Let the first interrupt stop after the current step, and a later one at once. Only the main thread gets them."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):  # ignored, or not Python's
        yield
        return

    def receive(_number: int, _frame: FrameType | None) -> None:
        repeated, stop.requested = stop.requested, True
        if repeated or not stop.checked_after_steps:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, receive)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _process_state_kept() -> Iterator[None]:
    """Restore the global generators and the number of torch's threads at the end."""
    before = _states()
    try:
        yield
    finally:
        with _interrupts_delayed():
            _restore(before)


def _states() -> dict[str, Any]:
    if "torch" not in sys.modules:
        numpy = sys.modules.get("numpy")
        return {"python": random.getstate(), "numpy": numpy.random.get_state() if numpy else None}
    import torch

    from gradlab.tasks.global_generators import global_states

    return global_states() | {"threads": torch.get_num_threads()}


def _restore(before: dict[str, Any]) -> None:
    numpy = sys.modules.get("numpy")
    if numpy and before["numpy"] is None:
        numpy.random.seed()  # it was not imported: a random seed, as at import
    if "torch" not in sys.modules:
        random.setstate(before["python"])
        if numpy and before["numpy"] is not None:
            numpy.random.set_state(before["numpy"])
        return
    import torch

    from gradlab.tasks.global_generators import set_global_states

    if "torch" not in before:  # it was imported since: as at import
        before |= {"torch": torch.Generator().get_state(), "cuda": [], "mps": None}
        before["threads"] = threads_at_import[0] if threads_at_import else torch.get_num_threads()
    set_global_states(before)
    torch.set_num_threads(before["threads"])


@contextmanager
def _interrupts_delayed() -> Iterator[None]:
    """Raise an interrupt of this time at the end."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    received: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _frame: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if received:
        raise KeyboardInterrupt
