"""Audit of a training script: measures what it does with its gradients and reports mistakes.

    with gradlab.audit.watch() as report:
        train()
    print(report)

`gradlab audit SCRIPT.py` audits a script without changing it.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from gradlab.audit.report import Report

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["GradientWarning", "Report", "warn", "watch"]


class GradientWarning(UserWarning):
    """A mistake in how a script handles its gradients, as a Python warning."""


@contextmanager
def watch(
    sample: int | None = None, *, select: Collection[str] = (), ignore: Collection[str] = ()
) -> Iterator[Report]:
    """Watch the training inside the `with` block. The report is readable at any time, and complete at its end.

    Watches can be nested. The end of the last one restores all patched functions of torch. The training computes
    the same as without a watch.

    Args:
        sample: measure the first two updates and every `sample`-th; 1 measures all. Default: the first 100, one in
            23 up to update 184, then the next after an eighth of those so far.
        select: ids of rules to check in addition to the default ones.
        ignore: ids of rules not to check.

    Raises:
        AuditError: an id is unknown, or in both lists.
    """
    from gradlab.audit.choice.rules import choose
    from gradlab.audit.hooks import active
    from gradlab.audit.recording.recorder import Recorder

    chosen = choose(select, ignore)
    recorder = Recorder(sample, chosen=chosen)
    active.start(recorder)
    try:
        yield Report(recorder.history, chosen, partial(active.stop, recorder))
    finally:
        active.stop(recorder)


def warn(sample: int | None = None, *, select: Collection[str] = (), ignore: Collection[str] = ()) -> None:
    """Watch from now on, and warn once per rule, at the first measured update that shows an error or a warning.

    The warning is a `GradientWarning` at the line of the step. If warnings are errors, it is raised there, after the
    step. Notes don't warn, and a comment in the script can ignore a finding. A second call has no effect.

    Args:
        sample: the measured updates, as in `watch`.
        select: ids of rules, as in `watch`.
        ignore: ids of rules, as in `watch`.

    Raises:
        AuditError: an id is unknown, or in both lists.
    """
    from gradlab.audit.choice.ignoring import is_ignored
    from gradlab.audit.choice.rules import choose
    from gradlab.audit.findings import find
    from gradlab.audit.hooks import active
    from gradlab.audit.recording.recorder import Recorder

    if _warning:
        return
    chosen = choose(select, ignore)
    warned: set[str] = set()

    def warn_of_findings() -> None:
        from gradlab.audit.places import user_location

        try:
            new = (each for each in find(recorder.history, chosen) if each.id not in warned)
            found = [each for each in new if each.severity != "note" and not is_ignored(each)]
        except Exception as error:  # a bug of ours; a raised warning belongs to the script
            recorder.failed("find", error)
            return
        for each in found:
            if each.id in warned:  # two findings of one rule
                continue
            warned.add(each.id)
            place = user_location() or (each.places[0] if each.places else None)
            file, line = place or ("", 0)
            warnings.warn_explicit(f"{each.id}: {each.text}", GradientWarning, file, line)

    recorder = Recorder(sample, warn_of_findings, chosen)
    _warning.append(recorder)
    active.start(recorder)


def __dir__() -> list[str]:
    return sorted(__all__)


_warning: list[object] = []  # the recorder of warn(), once called
