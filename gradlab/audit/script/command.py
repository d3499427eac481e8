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
from gradlab.audit.script.rank import rank_in
from gradlab.audit.script.rank_exchange import Exchange
from gradlab.errors import DONE, FAILED, NO_RESULT, AuditError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from gradlab.audit.script.signals import Interrupts

    Write = Callable[[Report, int], None]


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

    The first that applies gives the status:

    * the script's own, if not 0
    * 130, if SIGINT came after the script
    * 3, if no optimizer took a step, or several threads trained at once; 0 without `strict`
    * 1, if the report has errors or warnings; 0 without `strict`
    * 0

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
        if exchange.collect(report, status, lambda: terminated_late or interrupts.came):
            write(report, status)

    with signals.on_sigterm(terminated):
        active.start(recorder, guard.install, limit.install)
        try:
            status = _run_script(name, args, interrupts, is_module=is_module)
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
    found = _exit_status_of(report) if strict and exchange.rank.reports else DONE
    if found:
        exchange.fail_last(report.lines(1000)[0])
    return found


def _exit_status_of(report: Report) -> int:
    return NO_RESULT if not report.audited else DONE if report.ok else FAILED


def _run_script(name: str, args: Sequence[str], interrupts: Interrupts, *, is_module: bool) -> int:
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
