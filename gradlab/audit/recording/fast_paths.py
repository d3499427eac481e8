"""Fast paths: hooks record usual updates directly, without calling the recorder.

Most updates are not measured, and most scripts have one optimizer and do the same for every update. A call of the
recorder costs one percent of a small script's update. So a fast path holds a copy of the state that they change. The
hooks of backward(), zero_grad() and step() change this copy. Before the recorder records anything else, it writes the
copy back. Then it makes a new one.

Python may switch threads at a call (see `threads`), and another thread may then close the fast path. So the hooks
read `busy` after their calls. From there to their last write to the copy, they make no call.
"""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any

from gradlab.audit.history.trace import Event
from gradlab.audit.recording.samples import is_lost_number
from gradlab.audit.recording.usual_updates import CERTAIN, USUAL_PASS

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim import Optimizer

    from gradlab.audit.recording.recorder import Recorder

SHORT = 512  # letters of a trace
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
        probe = None if fast is None or (args and is_lost_number(args[0])) else fast.probe()
        if fast is not None and probe is not None:
            me, grad, running = get_ident(), probe.grad, None
            version = -1 if grad is None else grad._version  # noqa: SLF001 - no public equivalent
            usual = not fast.has_gradient if grad is None else probe.requires_grad
            if usual and fast.busy is None and not fast.step_depth and len(fast.letters) < SHORT:
                running = USUAL_PASS
                if (fast.accumulates and fast.loss is None) or (grad is not None and fast.certain < CERTAIN):
                    scaled = recorders[0].loss_is_scaled
                    running = fast.start_pass(args, kwargs, scaled=scaled, empty=grad is None)
            if running is not None and fast.busy is None:
                fast.busy, fast.running = me, running
                try:
                    return backward(*args, **kwargs)
                finally:
                    now = probe.grad
                    reached = now is not None and (now is not grad or now._version != version)  # noqa: SLF001 - as above
                    if reached and fast.running is running:
                        fast.running = None
                        fast.letters += BACKWARD
                        fast.has_gradient = True
                        if running is not USUAL_PASS:
                            fast.loss = fast.loss if running.loss is None else running.loss
                            fast.certain += running.grads is not None
                        recorder = recorders[0]
                        recorder.loss_is_scaled = False
                        recorder.history.backwards += 1
                        fast.busy = None
                    else:
                        fast.certain = 0
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
        if fast is not None and fast.optimizer() is args[0] and fast.busy is None and not fast.letters:
            fast.letters = CLEARED
            fast.has_gradient = False
            return result
        cleared(args[0])
        return result

    return call


def recorded_step(
    recorders: list[Recorder], started: Callable[[Optimizer], None], ended: Callable[[Optimizer], None]
) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return hooks for the start and end of a step that call `started` and `ended`, or record a usual step."""

    def on_start(optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        fast = recorders[0].fast_path if len(recorders) == 1 else None
        if fast is not None and fast.optimizer() is optimizer:
            probe = fast.probe()
            if (
                fast.busy is None
                and fast.left > 0
                and fast.has_gradient
                and not fast.step_depth
                and probe is not None
                and probe.grad is not None
            ):
                fast.step_depth = 1
                fast.step_without_gradient = False
                return
        started(optimizer)

    def on_end(optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        """Record an update that equals the one before."""
        fast = recorders[0].fast_path if len(recorders) == 1 else None
        if fast is not None and fast.optimizer() is optimizer:
            batches, by_loader, counts = recorders[0].batches, recorders[0].by_loader, fast.history.fetched
            before = by_loader.copy() if batches != fast.fetched_before else None
            several_loaders = before is not None and len(before) > 1
            fetched = batches - fast.fetched_before  # after the calls
            if (
                fast.busy is None
                and fast.step_depth == 1
                and fast.letters == fast.trace
                and fast.loss == fast.usual_loss
                and fetched in counts
                and (fetched < 2 or not several_loaders)
                and (before is not None or not fetched)
                and not fast.step_without_gradient
            ):
                fast.step_depth = 0
                fast.letters = ""
                if fast.loss is not None:
                    fast.loss = None
                    fast.loss_counts[0] += 1
                if fetched:
                    fast.fetched_before, fast.by_loader_before = batches, before
                fast.left -= 1
                fast.stretch.times += 1
                fast.history.updates += 1
                counts[fetched] += 1
                return
        ended(optimizer)

    return on_start, on_end
