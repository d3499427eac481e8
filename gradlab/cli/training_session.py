"""A training session of `run` or `sweep`: show progress, stop on signals, keep stdout for the result."""

from __future__ import annotations

import sys
from contextlib import closing, contextmanager, nullcontext, redirect_stdout
from typing import TYPE_CHECKING

from gradlab.terminal.messages import progress_display as progress_display

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlab.runs import Stop
    from gradlab.terminal.progress import TrainingProgress


@contextmanager
def training_session(progress: TrainingProgress | None) -> Iterator[Stop]:
    """Yield the `Stop` that Ctrl-C and SIGTERM request, and close the progress at the end.

    The output of a user's task goes to stderr.

    Raises:
        Interrupted: a signal arrived.
    """
    from gradlab import startup
    from gradlab.terminal.signals import stop_on_signals

    startup.OURS = True
    shown = closing(progress) if progress else nullcontext()
    with stop_on_signals() as stop, shown, redirect_stdout(sys.stderr):
        yield stop
