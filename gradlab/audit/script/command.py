"""`gradlab audit`: runs a script under a watch and writes one report, however the script ends."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gradlab.audit.hooks import active
from gradlab.audit.hooks.limit import UpdateLimit
from gradlab.audit.hooks.spawning import SpawnGuard
from gradlab.audit.recording.recorder import Recorder
from gradlab.audit.report import Report
from gradlab.audit.script import launchers, running, signals
from gradlab.audit.script.launched import Exchange, rank_in
from gradlab.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from gradlab.audit.script.signals import Interrupts

    Write = Callable[[Report, int], None]

FOUND, NOTHING_AUDITED = 1, 3


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
    max_updates: int | None = None,
) -> int:
    """Audit a script, or a module by its name, and return the exit status.

    The first that applies gives the status: the script's own if not 0; 130 if SIGINT came after the script. Then 3 if
    no optimizer took a step, or if several threads trained at once. Then 1 if the report has errors or warnings, or 0.
    Without `strict`, 3 and 1 become 0.

    `write` is called once with the report and the script's own status, even if a signal ends the process. After the
    script has ended, `interrupts` delays SIGINT. `max_updates` ends the script after that many updates.
    `chosen` are ids of rules.

    Raises:
        AuditError: the script does not exist, or starts its training in other processes.
    """
    launchers.refuse_launcher(name, args, is_module=is_module)
    owner, recorder = os.getpid(), Recorder(sample, chosen=chosen)
    report = Report(recorder.history, chosen)
    exchange, limit, guard = Exchange(rank_in(os.environ)), UpdateLimit(max_updates), SpawnGuard()
    written, terminated_late = False, False  # the latter: while the report was written

    def terminated() -> bool:
        nonlocal written, terminated_late
        interrupts.hold()
        active.stop(recorder)
        if written:
            terminated_late = True
            return False
        written = True
        report_once(signals.TERMINATED)
        return True

    def report_once(status: int) -> None:
        report.history.information += limit.notes()
        report.history.ended_early = limit.reached or status != 0
        if exchange.collected(report, status, lambda: terminated_late or interrupts.came):
            write(report, status)

    with signals.on_sigterm(terminated):
        active.start(recorder, guard.install, limit.install)
        try:
            status = _ended(name, args, interrupts, is_module=is_module)
            guard.raise_if_refused(lambda number: launchers.torchrun_of(name, args, number, is_module=is_module))
        except AuditError:
            exchange.remove()
            raise
        finally:
            active.stop(recorder)
        if os.getpid() != owner:  # a forked child of the script, which writes no report
            return status
        signals.flush()
        written = True
        report_once(status)
    if terminated_late:
        signals.end_at_once(signals.TERMINATED)
    if status or interrupts.came:
        return status or signals.INTERRUPTED
    judged = _judged(report) if strict and exchange.rank.reports else 0
    if judged:
        exchange.fail_last(report.lines(1000)[0])
    return judged


def _judged(report: Report) -> int:
    return NOTHING_AUDITED if not report.audited else 0 if report.ok else FOUND


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
