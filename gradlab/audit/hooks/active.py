"""Which recorders are active: hooks are installed for the first one, and removed after the last.

A hook is a function `install(patches, recorders)`: it patches torch by `patches`, and calls a method of each of
`recorders` when something happens. It must not raise within the script, and costs a few microseconds a step at most.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gradlab.audit.hooks import backward, clearing, clipping, epochs, scaling, scheduling, steps
from gradlab.audit.hooks.import_callback import call_when_imported
from gradlab.audit.hooks.patching import Patches

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradlab.audit.recording.recorder import Recorder

HOOKS: tuple[Callable[[Patches, list[Recorder]], None], ...] = (
    backward.install,
    steps.install,
    clearing.install,
    clipping.install,
    scaling.install,
    scheduling.install,
    epochs.install,
)
NEEDED = (backward.install, steps.install)  # without them, what the others record would be misunderstood

_recorders: list[Recorder] = []
_patches = Patches()
_failures: list[tuple[str, Exception]] = []  # hooks that could not be installed


def _install() -> None:
    """Install all hooks. One that fails, because torch has moved what it patches, is reported and left out."""
    for install in HOOKS:
        patches = Patches()
        try:
            install(patches, _recorders)
        except Exception as error:  # whatever it is, it is not the script's
            patches.close()
            _failures.append((install.__module__.rpartition(".")[2], error))
            if install in NEEDED:
                _patches.close()
                break
        else:
            _patches.callback(patches.close)
    for recorder in _recorders:
        _report_failures(recorder)


def _report_failures(recorder: Recorder) -> None:
    for name, error in _failures:
        recorder.failed(name, error)


def start(recorder: Recorder) -> None:
    """Record what happens from now on; where torch is not imported yet, from when it is."""
    _report_failures(recorder)
    _recorders.append(recorder)
    if len(_recorders) > 1:
        return
    if "torch" in sys.modules:
        _install()
    else:
        _patches.callback(call_when_imported("torch", _install))


def stop(recorder: Recorder) -> None:
    """Record no more; after the last recorder, restore all that was patched."""
    if recorder in _recorders:
        _recorders.remove(recorder)
        recorder.close()
    if not _recorders:
        _patches.close()
        _failures.clear()
