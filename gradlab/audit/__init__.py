"""What a training script does with its gradients, measured while it trains.

    with gradlab.audit.watch() as report:
        train()
    print(report)

`gradlab audit SCRIPT.py` watches a script that knows nothing of it.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gradlab.audit.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["GradientWarning", "Report", "warn", "watch"]


class GradientWarning(UserWarning):
    """What was found of a script's gradients, as a Python warning."""


@contextmanager
def watch(sample: int | None = None) -> Iterator[Report]:
    """Watch what is trained within; the report is whole when it ends, and tells of what was seen before.

    Watches may be nested. What is patched in torch is restored when the last one ends. Nothing of the training
    changes.

    Args:
        sample: measure the way to the first two updates and to every so many-th; 1 is each. By default to the first
            eight, then to one in 23 up to the 184th, then to the next one after an eighth of those so far.
    """
    from gradlab.audit.hooks import active
    from gradlab.audit.recording.recorder import Recorder

    recorder = Recorder(sample)
    active.start(recorder)
    try:
        yield Report(recorder.history)
    finally:
        active.stop(recorder)


def warn(sample: int | None = None) -> None:
    """Watch from now on, and warn once of each error or warning by its id, at the first update measured that shows it.

    The warning is a `GradientWarning`, with the line that takes the step; where warnings are errors, it is raised
    there, after the step. Of notes there is none. A second call does nothing more.

    Args:
        sample: which updates are measured, as in `watch`.
    """
    from gradlab.audit.findings import find
    from gradlab.audit.hooks import active
    from gradlab.audit.recording.recorder import Recorder

    if _warning:
        return
    warned: set[str] = set()

    def warn_of_findings() -> None:
        from gradlab.audit.places import user_location

        try:
            found = find(recorder.history)
        except Exception as error:  # it is ours, while a warning that is raised is the script's
            recorder.failed("find", error)
            return
        for each in found:
            if each.severity == "note" or each.id in warned:
                continue
            warned.add(each.id)
            place = user_location() or (each.places[0] if each.places else None)
            text = f"{each.id}: {each.message}. Instead: {each.instead}"
            file, line = place or ("", 0)
            warnings.warn_explicit(text, GradientWarning, file, line)

    recorder = Recorder(sample, on_measured=warn_of_findings)
    _warning.append(recorder)
    active.start(recorder)


_warning: list[object] = []  # the recorder of warn(), once it has been called
