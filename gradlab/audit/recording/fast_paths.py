"""Fast paths: hooks record usual updates directly, without calling the recorder.

Most updates are not measured, and most scripts have one optimizer and call zero_grad(). A call of the recorder costs
one percent of a small script's update. So the hooks of backward(), zero_grad() and step() write usual events
themselves, and use the recorder for all others. Median time of a `digits` update: 367 µs without the audit, 387 µs
with fast paths, 438 µs without them.

Only these functions write to the recorder and the watched optimizer from outside. They make no call between reading
`thread.current` and writing, because Python may switch threads at a call (see `threads`).
"""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any

from gradlab.audit.history.trace import Event
from gradlab.audit.recording.loss import loss_of_pass
from gradlab.audit.recording.samples import is_lost_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim import Optimizer

    from gradlab.audit.recording.recorder import Recorder

SHORT = 16  # letters of a trace
BACKWARD, CLEARED = Event.BACKWARD.value, Event.CLEARED.value


def recorded_backward(
    backward: Callable[..., Any],
    recorders: list[Recorder],
    started: Callable[[tuple[Any, ...], dict[str, Any]], None],
    ended: Callable[[], None],
) -> Callable[..., Any]:
    """Return a backward() that calls `started` and `ended`, or records a usual pass directly."""

    def call(*args: Any, **kwargs: Any) -> Any:  # pragma: no cover - it runs under another file name
        fast = recorders[0].fast_path if len(recorders) == 1 else None
        if fast is not None and not (args and is_lost_number(args[0])):
            recorder, watched, probe, me = recorders[0], fast.watched, fast.probe(), get_ident()
            thread, window = recorder.thread, watched.window
            short = len(window.letters) < SHORT
            if (
                thread.current is None
                and short
                and probe is not None
                and probe.grad is None
                and not (watched.has_gradient or watched.step_depth or watched.accumulates)
            ):
                thread.depth, thread.current, recorder.fast_pass = 1, me, watched
                try:
                    return backward(*args, **kwargs)
                finally:
                    probe = fast.probe()
                    if recorder.fast_pass is watched and probe is not None and probe.grad is not None:
                        thread.depth, thread.current, recorder.fast_pass = 0, None, None
                        recorder.loss_is_scaled = False
                        recorder.history.backwards += 1
                        watched.has_gradient = True
                        watched.window.letters += BACKWARD
                    else:
                        ended()
            if (
                thread.current is None
                and short
                and probe is not None
                and (watched.accumulates or (probe.grad is not None and probe.requires_grad))
                and not watched.step_depth
            ):  # gradients are there (zeros, or those of earlier passes), or it accumulates
                loss = None
                if watched.accumulates and not window.losses:
                    loss = loss_of_pass(args, kwargs, scaled=recorder.loss_is_scaled)
                start = watched.start_pass(watched.groups)
                letters = len(window.letters)
                if thread.current is None:
                    thread.depth, thread.current, recorder.fast_pass, recorder.fast_start = 1, me, watched, start
                    try:
                        return backward(*args, **kwargs)
                    finally:
                        if recorder.fast_pass is watched and recorder.fast_start is start:
                            recorder.fast_pass = recorder.fast_start = None
                            recorder.loss_is_scaled = False
                            recorder.history.backwards += 1
                            watched.end_pass(start)
                            if loss is not None and letters < len(window.letters):
                                window.losses.append(loss)
                            thread.depth, thread.current = 0, None
                        else:
                            ended()
        try:
            started(args, kwargs)
            return backward(*args, **kwargs)
        finally:
            ended()

    return call


def recorded_zero_grad(
    zero_grad: Callable[..., Any], recorders: list[Recorder], cleared: Callable[[Optimizer], None]
) -> Callable[..., Any]:
    """Return a zero_grad() that then calls `cleared`, or records a usual clearing directly."""

    def call(*args: Any, **kwargs: Any) -> Any:  # pragma: no cover - it runs under another file name
        result = zero_grad(*args, **kwargs)
        fast = recorders[0].fast_path if len(recorders) == 1 else None
        if (
            fast is not None
            and fast.watched.optimizer() is args[0]
            and recorders[0].thread.current is None
            and not fast.watched.window.letters
        ):
            fast.watched.has_gradient = False
            fast.watched.window.letters = CLEARED
            return result
        cleared(args[0])
        return result

    return call


def starts_usual_step(recorders: list[Recorder], optimizer: Optimizer) -> bool:
    """Record the start of a usual step; return False if the recorder must do it."""
    fast = recorders[0].fast_path if len(recorders) == 1 else None
    if fast is None or fast.watched.optimizer() is not optimizer:
        return False
    watched, probe = fast.watched, fast.probe()
    if (
        recorders[0].thread.current is None
        and watched.has_gradient
        and not watched.step_depth
        and probe is not None
        and probe.grad is not None
        and watched.history.updates + 2 < watched.next_measured
    ):
        watched.step_depth = 1
        watched.step_without_gradient = False
        return True
    return False


def ends_usual_step(recorders: list[Recorder], optimizer: Optimizer) -> bool:
    """Record an update that equals the one before; return False if the recorder must do it."""
    fast = recorders[0].fast_path if len(recorders) == 1 else None
    if fast is None or fast.watched.optimizer() is not optimizer:
        return False
    watched, stretch, batches = fast.watched, fast.stretch, recorders[0].batches
    window, history = watched.window, watched.history
    fetched = batches - window.fetched_before
    if (
        watched.step_depth == 1
        and stretch.trace == window.letters
        and fetched in history.fetched
        and not (window.losses or watched.step_without_gradient)
        and recorders[0].thread.current is None
    ):
        watched.step_depth = 0
        window.letters = ""
        window.fetched_before = batches
        window.by_loader_before = None
        stretch.times += 1
        history.updates += 1
        history.fetched[fetched] += 1
        return True
    return False
