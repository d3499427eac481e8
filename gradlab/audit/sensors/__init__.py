"""What is listened to: each module installs itself around some of torch's functions.

A sensor is a function `install(patches, recorders)`: it patches by `patches`, and tells each of `recorders` what
happens. It must not raise within the script, and costs a few microseconds a step at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.audit.sensors import backward, clearing, clipping, epochs, scaling, scheduling, steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradlab.audit.patching import Patches
    from gradlab.audit.recording import Recorder

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
