"""Which recorders hear what happens: patched once for the first, restored after the last."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gradlab.audit.hooks import arrival, backward, clearing, clipping, epochs, scaling, scheduling, steps
from gradlab.audit.hooks.patching import Patches

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradlab.audit.recording.recorder import Recorder

SENSORS: tuple[Callable[[Patches, list[Recorder]], None], ...] = (
    backward.install,
    steps.install,
    clearing.install,
    clipping.install,
    scaling.install,
    scheduling.install,
    epochs.install,
)
NEEDED = (backward.install, steps.install)  # without them, what the others hear would be misunderstood

_recorders: list[Recorder] = []
_patches = Patches()


_failures: list[tuple[str, Exception]] = []  # sensors that could not be installed


def _install() -> None:
    """Install all sensors; one that fails, for torch has moved what it listens to, is told of and not felt."""
    for install in SENSORS:
        before = _patches.so_far()
        name = install.__module__.rpartition(".")[2]
        try:
            install(_patches, _recorders)
        except Exception as error:  # whatever it is, it is not the script's
            _patches.restore(before)
            _failures.append((name, error))
            if install in NEEDED:  # the others would be taken for all that happens
                _patches.restore()
                break
    for recorder in _recorders:
        _tell_failures(recorder)


def _tell_failures(recorder: Recorder) -> None:
    for name, error in _failures:
        recorder.failed(name, error)


def begin(recorder: Recorder) -> None:
    """Let the recorder hear what happens from now on; where torch is not imported yet, from when it is."""
    _tell_failures(recorder)
    _recorders.append(recorder)
    if len(_recorders) > 1:
        return
    if "torch" in sys.modules:
        _install()
    else:
        _patches.later(arrival.when_imported("torch", _install))


def end(recorder: Recorder) -> None:
    """Let it hear no more; after the last one, put back all that was patched."""
    if recorder in _recorders:
        _recorders.remove(recorder)
        recorder.close()
    if not _recorders:
        _patches.restore()
        _failures.clear()
