"""Rules on the divisor of losses in a window: missing, applied twice, or too large."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.audit.findings.finding import LEAST, Finding
from gradlab.audit.findings.windows import EPOCHS, accumulating, is_off_by_one
from gradlab.audit.history.keep import ALIKE, losses_of, scaled_by_hand
from gradlab.audit.history.loss import Loss
from gradlab.audit.history.trace import BACKWARDS, last_try

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gradlab.audit.history.history import History, OptimizerHistory

LEAST_TWICE = 3  # micro-batches: many losses contain ½ for other reasons


def _all(history: OptimizerHistory, every: int, is_so: Callable[[Loss, int], bool]) -> bool:
    """Say whether all losses read in windows of `every` passes satisfy `is_so`, and enough were read."""
    found = losses_of(history, every)
    return sum(times for _, times, _ in found) >= LEAST and all(is_so(loss, every) for loss, _, _ in found)


def _read(history: OptimizerHistory, every: int) -> str:
    """Return the evidence in words: in how many windows of `every` passes the losses were read."""
    read = sum(times for _, times, _ in losses_of(history, every))
    return f"in {read} of {read} windows read"


def _is_whole_mean(loss: Loss, _every: int) -> bool:
    return loss.undivided and loss.base == "mean"


def last_window_divided_by_n(history: History) -> Iterator[Finding]:
    """Find shorter windows whose losses are divided by the usual window length."""
    for each, windows in accumulating(history):
        every = windows.every
        lengths = {window.passes for window in windows.short}
        found = [one for length in sorted(lengths) for one in losses_of(each, length)]
        shown = sum(times for _, times, _ in found)
        wrong = shown >= EPOCHS and all(loss.over(every) for loss, _, _ in found)
        if not wrong or is_off_by_one(windows) or not _all(each, every, Loss.over):
            continue
        own = all(loss.own for loss, _, _ in found)  # else a framework divides, which the script cannot change
        length = " or ".join(map(str, sorted(lengths)))
        noun = "micro-batch" if lengths == {1} else "micro-batches"
        yield Finding(
            "last-window-divided-by-n",
            "warning" if own else "note",
            min(first for _, _, first in found),
            tuple(each.places_of(BACKWARDS)),
            f"{each.name}: the last window has {length} {noun} but is divided by {every}, so its gradient is too "
            f"small (seen {shown} times)",
            "divide each loss by the number of micro-batches in its own window"
            if own
            else f"a multiple of {every} batches per epoch, because the framework divides by {every}",
        )


def loss_not_divided(history: History) -> Iterator[Finding]:
    """Find mean losses whose gradients are summed over a window, which is an error if clipping shortens the sum.

    If no DataLoader gave as many batches, they may be several losses of one batch, so it is only a note.
    """
    for each, windows in accumulating(history):
        every = windows.every
        if scaled_by_hand(each) or not _all(each, every, _is_whole_mean):
            continue
        clipped, fetched = _clipped(each), each.batches >= every
        yield Finding(
            "loss-not-divided",
            "error" if fetched and clipped >= LEAST else "note",
            min(first for _, _, first in losses_of(each, every)),
            tuple(each.places_of(BACKWARDS)),
            f"{each.name}: the losses of {every} {'micro-batches' if fetched else 'backward passes'} are not divided "
            f"by {every}, so the gradient is {every} times their mean ({_read(each, every)})"
            + (f"; clipping shortens it (at {clipped} measured updates)" if clipped >= LEAST else ""),
            (f"scaler.scale(loss / {every}).backward()" if each.scaled_losses else f"(loss / {every}).backward()")
            + ("" if fetched else ", if these are micro-batches"),
        )


def _clipped(history: OptimizerHistory) -> int:
    """Return the number of measured updates whose gradient only clipping made smaller."""
    traces = [last_try(trace) for trace, _ in history.traces()]
    if any("u" in trace for trace in traces) or not all("c" in trace.rpartition("B")[2] for trace in traces):
        return 0
    return sum(each.size is not None and each.size < 1 - ALIKE for each in history.measured)


def divided_twice(history: History) -> Iterator[Finding]:
    """Find losses that are divided twice by the window length, or once and their gradient once more."""
    for each, windows in accumulating(history):
        every = windows.every
        in_loss = every >= LEAST_TWICE and _all(each, every, Loss.twice)
        after = _all(each, every, Loss.over) and _by_hand(each, every)
        if not in_loss and not after:
            continue
        yield Finding(
            "divided-twice",
            "error",
            min(first for _, _, first in losses_of(each, every)),
            tuple(each.places_of(BACKWARDS)),
            f"{each.name}: the losses of {every} micro-batches are divided by {every}"
            + (" twice" if in_loss else ", and their gradient again before the step")
            + f" ({_read(each, every)})",
            f"divide by {every} once; a framework that accumulates already divides",
        )


def _by_hand(history: OptimizerHistory, every: int) -> bool:
    """Say whether every measured step found its gradient divided by `every`."""
    sizes = [each.size for each in history.measured if each.size is not None and not each.empty]
    return scaled_by_hand(history) and len(sizes) >= LEAST and all(abs(size * every - 1) <= ALIKE for size in sizes)
