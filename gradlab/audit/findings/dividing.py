"""What the losses of a window are divided by: by nothing, twice, or by more than there are of them."""

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

LEAST_TWICE = 3  # micro-batches: ½ stands before many a loss for reasons of its own


def _all(history: OptimizerHistory, every: int, is_so: Callable[[Loss, int], bool]) -> bool:
    """Say whether all losses that were read of windows of so many passes are so, and enough were read."""
    found = losses_of(history, every)
    return sum(times for _, times, _ in found) >= LEAST and all(is_so(loss, every) for loss, _, _ in found)


def _read(history: OptimizerHistory, every: int) -> str:
    """Say of how many windows of so many passes the losses were read; `_all` of them are alike."""
    read = sum(times for _, times, _ in losses_of(history, every))
    return f"in {read} of {read} windows read"


def _is_whole_mean(loss: Loss, _every: int) -> bool:
    return loss.undivided and loss.base == "mean"


def last_window_divided_by_n(history: History) -> Iterator[Finding]:
    """Find shorter windows whose losses are divided by the length of the usual ones."""
    for each, windows in accumulating(history):
        every = windows.every
        lengths = {window.passes for window in windows.short}
        found = [one for length in sorted(lengths) for one in losses_of(each, length)]
        shown = sum(times for _, times, _ in found)
        wrong = shown >= EPOCHS and all(loss.over(every) for loss, _, _ in found)
        if not wrong or is_off_by_one(windows) or not _all(each, every, Loss.over):
            continue
        own = all(loss.own for loss, _, _ in found)  # else a framework divides, and the script can do little
        length = " or ".join(map(str, sorted(lengths)))
        yield Finding(
            "last-window-divided-by-n",
            "warning" if own else "note",
            min(first for _, _, first in found),
            tuple(each.places_of(BACKWARDS)),
            f"{each.kind}: windows of {length} backward passes are divided by {every}, as those of {every} are "
            f"(seen {shown} times): their gradient is too small",
            "divide each loss by the number of micro-batches in its own window",
        )


def loss_not_divided(history: History) -> Iterator[Finding]:
    """Find losses that are means, and whose gradients are summed over a window: an error where that is clipped.

    Where no DataLoader gave as many batches, they may be losses of one batch: then it is but a note.
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
            f"{each.kind}: the losses of {every} {'micro-batches' if fetched else 'backward passes'} are not divided "
            f"by {every}: the gradient is their sum, {every} times the mean ({_read(each, every)})"
            + (f", and is clipped as such (at {clipped} updates measured)" if clipped >= LEAST else ""),
            f"(loss / {every}).backward()" + ("" if fetched else ", where they are of micro-batches"),
        )


def _clipped(history: OptimizerHistory) -> int:
    """Return how many updates that were measured found their gradient made smaller by clipping alone."""
    traces = [last_try(trace) for trace, _ in history.traces()]
    if any("u" in trace for trace in traces) or not all("c" in trace.rpartition("B")[2] for trace in traces):
        return 0
    return sum(each.size is not None and each.size < 1 - ALIKE for each in history.measured)


def divided_twice(history: History) -> Iterator[Finding]:
    """Find losses divided twice by the length of a window, or once and their gradient once more."""
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
            f"{each.kind}: the losses of {every} micro-batches are divided by {every} "
            + ("twice" if in_loss else "and their gradient by it once more before the step")
            + f" ({_read(each, every)})",
            f"divide by {every} once; a framework that accumulates does it by itself",
        )


def _by_hand(history: OptimizerHistory, every: int) -> bool:
    """Say whether each step that was measured found the gradient divided by so much."""
    sizes = [each.size for each in history.measured if each.size is not None and not each.empty]
    return scaled_by_hand(history) and len(sizes) >= LEAST and all(abs(size * every - 1) <= ALIKE for size in sizes)
