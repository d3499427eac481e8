"""Which recorders hear what happens: patched once for the first, restored after the last."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gradlab.audit import arrival
from gradlab.audit.patching import Patches
from gradlab.audit.sensors import SENSORS

if TYPE_CHECKING:
    from gradlab.audit.recording import Recorder

_recorders: list[Recorder] = []
_patches = Patches()


def _install() -> None:
    for install in SENSORS:
        install(_patches, _recorders)


def begin(recorder: Recorder) -> None:
    """Let the recorder hear what happens from now on; where torch is not imported yet, from when it is."""
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
