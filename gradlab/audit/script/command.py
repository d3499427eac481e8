"""`gradlab audit`: runs a script under a watch and writes one report, however the script ends."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gradlab.audit.hooks import active
from gradlab.audit.recording.recorder import Recorder
from gradlab.audit.report import Report
from gradlab.audit.script import running, signals

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from gradlab.audit.script.signals import Interrupts

    Write = Callable[[Report, int], None]

FOUND = 1


def audit(
    name: str,
    args: Sequence[str],
    write: Write,
    interrupts: Interrupts,
    *,
    is_module: bool,
    sample: int | None,
    chosen: Collection[str],
    strict: bool,
) -> int:
    """Audit a script, or a module by its name, and return the exit status.

    The status is the script's own if not 0; 130 if SIGINT came after the script; 1 if `strict` and the report has
    errors or warnings; otherwise 0. `write` is called once with the report and the script's own status, even if a
    signal ends the process. After the script has ended, `interrupts` delays SIGINT. `chosen` are ids of rules.

    Raises:
        AuditError: the script does not exist.
    """
    owner, recorder = os.getpid(), Recorder(sample)
    report = Report(recorder.history, chosen)
    written, terminated_late = False, False  # the latter: while the report was written

    def terminated() -> bool:
        nonlocal written, terminated_late
        interrupts.hold()
        active.stop(recorder)
        if written:
            terminated_late = True
            return False
        written = True
        write(report, signals.TERMINATED)
        return True

    with signals.on_sigterm(terminated):
        active.start(recorder)
        try:
            status = _ended(name, args, interrupts, is_module=is_module)
        finally:
            active.stop(recorder)
        if os.getpid() != owner:  # a forked child of the script, which writes no report
            return status
        signals.flush()
        written = True
        write(report, status)
    if terminated_late:
        signals.end_at_once(signals.TERMINATED)
    return status or (signals.INTERRUPTED if interrupts.came else FOUND if strict and not report.ok else 0)


def _ended(name: str, args: Sequence[str], interrupts: Interrupts, *, is_module: bool) -> int:
    """Run the script, and return its exit status, with SIGINT held from its end on."""
    try:
        try:
            return running.run(name, args, is_module=is_module)
        finally:
            interrupts.hold()
    except KeyboardInterrupt as error:
        interrupts.hold()  # a second one may have come before the first hold()
        running.show(error)
        return signals.INTERRUPTED
