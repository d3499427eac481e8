"""The active recorders: the first one installs the hooks, the last one removes them.

A hook is a function `install(patches, recorders)`. It patches torch through `patches`, and calls a method of all
`recorders` when something happens. It must not raise in the script or cost more than a few microseconds per step.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gradlab.audit.hooks import backward, clearing, clipping, epochs, modules, scaling, scheduling, steps
from gradlab.audit.hooks.import_callback import call_when_imported
from gradlab.audit.hooks.patching import Patches

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradlab.audit.recording.recorder import Recorder

    Hook = Callable[[Patches, list[Recorder]], None]

HOOKS: tuple[Hook, ...] = (
    backward.install,
    steps.install,
    clearing.install,
    clipping.install,
    scaling.install,
    scheduling.install,
    epochs.install,
    modules.install,
)
NEEDED = (backward.install, steps.install)  # without them, other records would be misleading

_recorders: list[Recorder] = []
_patches = Patches()
_extra: list[Hook] = []  # hooks of the command alone, installed last; they may raise in the script
_failures: list[tuple[str, Exception]] = []  # hooks that could not be installed


def _install() -> None:
    """Install all hooks; report and skip those that fail because torch has changed."""
    for install in (*HOOKS, *_extra):
        patches = Patches()
        try:
            install(patches, _recorders)
        except Exception as error:  # never the script's fault
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


def start(recorder: Recorder, *extra: Hook) -> None:
    """Start recording, once torch is imported. The first recorder may bring extra hooks."""
    _report_failures(recorder)
    _recorders.append(recorder)
    if len(_recorders) > 1:
        return
    _extra[:] = extra
    if "torch" in sys.modules:
        _install()
    else:
        _patches.callback(call_when_imported("torch", _install))


def stop(recorder: Recorder) -> None:
    """Stop recording; after the last recorder, restore everything that was patched."""
    if recorder in _recorders:
        _recorders.remove(recorder)
        recorder.close()
    if not _recorders:
        _patches.close()
        _extra.clear()
        _failures.clear()
