"""`gradlab audit`: a script run and watched, and the report written once, however it ends."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gradlab.audit import active, running
from gradlab.audit.recording import Recorder
from gradlab.audit.report import Report
from gradlab.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradlab.audit.running import Interrupts

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
    strict: bool,
) -> int:
    """Run a script under the audit, let `write` tell of the report, and return the exit status.

    That is the script's own where it is not 0; else 130 where SIGINT came after the script; else 1 where something was
    found and `strict`; else 0.

    Args:
        name: the script's file, or the name of its module.
        args: the script's own arguments.
        write: is called once with the report and the script's exit status, also when a signal ends the process.
        interrupts: holds SIGINT back, from the script's end on.
        is_module: whether `name` names a module.
        sample: measure the way to every so many-th update; None for the default.
        strict: whether what is found makes a status.

    Raises:
        AuditError: there is no such script.
    """
    owner, recorder = os.getpid(), Recorder(sample)
    report = Report(recorder.history)
    begun: list[int] = []  # the status with which the report is written, or has been
    late: list[None] = []  # something, where SIGTERM came meanwhile

    def terminated() -> bool:
        interrupts.hold()
        active.end(recorder)
        if begun:
            late.append(None)
            return False
        begun.append(running.TERMINATED)
        write(report, running.TERMINATED)
        return True

    with running.sigterm_heard(terminated):
        active.begin(recorder)
        try:
            status = _ended(name, args, interrupts, is_module=is_module)
        finally:
            active.end(recorder)
        if os.getpid() != owner:  # the script has forked, and this is the child, which ends as it would have
            return status
        running.flush()
        begun.append(status)
        write(report, status)
    if late:
        running.end_at_once(running.TERMINATED)
    return status or (running.INTERRUPTED if interrupts.came else FOUND if strict and not report.ok else 0)


def _ended(name: str, args: Sequence[str], interrupts: Interrupts, *, is_module: bool) -> int:
    """Run it, and return its exit status, with SIGINT held."""
    try:
        try:
            return _run(name, args, is_module=is_module)
        finally:
            interrupts.hold()
    except KeyboardInterrupt as error:
        interrupts.hold()  # a second one may have come before the first line of it
        running.show(error)
        return running.INTERRUPTED


def _run(name: str, args: Sequence[str], *, is_module: bool) -> int:
    sys.argv, ours = ["-m" if is_module else name, *args], sys.argv
    try:
        chosen = running.module(name, ours[0]) if is_module else running.script(name, ours[0])
    except (AuditError, KeyboardInterrupt):
        raise
    except SystemExit as end:  # of a package above the module, which is imported on the way
        return running.status_of(end)
    except SyntaxError as error:
        running.show(error.with_traceback(None))
        return 1
    except BaseException as error:  # of such a package, too
        running.show(error)
        return 1
    return running.run(chosen, args)


class Streams:
    """The script's streams: as Python opens them; with `aside`, its stdout is stderr, so that ours is the answer's.

    Args:
        aside: see above.
        errors: how stdout and stderr treat what they cannot encode, as Python has opened them; None where not known.

    Attributes:
        answer: writes a text to what was stdout, whatever the script has done to its own since.
    """

    def __init__(self, *, aside: bool, errors: Sequence[str | None] = (None, None)) -> None:
        for stream, mode in zip((sys.stdout, sys.stderr), errors, strict=True):
            if mode and hasattr(stream, "reconfigure"):
                stream.reconfigure(errors=mode)
        self._own: Any = sys.stdout
        self._talk = sys.stderr
        self._aside = False  # whether sys.stdout is another object for a while
        self._number: int | None = None
        if not aside:
            return
        try:
            if sys.stdout.fileno() == 1:  # what its C code and its children print, too
                self._number = os.dup(1)
                os.dup2(2, 1)
                return
        except (OSError, ValueError, AttributeError):
            pass
        sys.stdout, self._aside = sys.stderr, True

    def answer(self, text: str) -> None:
        """Write to what was stdout."""
        if self._number is None:
            self._own.write(text)
            self._own.flush()
            return
        with open(self._number, "w", encoding="utf-8", closefd=False) as stream:  # a number, no path
            stream.write(text)

    def tell(self, text: str) -> None:
        """Write a line to what was stderr; where nobody listens, so be it."""
        with suppress(OSError, ValueError, AttributeError):
            try:
                self._talk.write(f"{text}\n")
                self._talk.flush()
            except RuntimeError:  # a signal came while something was being written to it: it takes no more
                os.write(self._talk.fileno(), f"{text}\n".encode(self._talk.encoding, "backslashreplace"))

    def take_back(self) -> None:
        """Let stdout be itself again, for an answer that is not the report."""
        if self._number is not None:
            running.flush()
            os.dup2(self._number, 1)

    def restore(self) -> None:
        """Give sys.stdout back where it was another object, and nothing in the place of one that the script closed."""
        if self._aside:
            sys.stdout = self._own
        if getattr(sys.stdout, "closed", False):
            sys.stdout = None  # as Python has it without a stdout
