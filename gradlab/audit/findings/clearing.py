"""Rules on clearing gradients: never, too early, too rarely, too often."""

from __future__ import annotations

import re
from statistics import median
from typing import TYPE_CHECKING

from gradlab.audit.findings.finding import LEAST, Finding, all_is_left, count, counted_measured, measured_of
from gradlab.audit.findings.parameters import listed
from gradlab.audit.history.keep import ALIKE, emptied_between, keep_of, mode_of, scale_of_kept
from gradlab.audit.history.trace import BACKWARDS, CLEARED, backwards_in, gathered_in, only, own_part
from gradlab.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlab.audit.history.history import History, MeasuredUpdate, OptimizerHistory
    from gradlab.audit.places import Place

LEAST_NOISE, USUAL_NOISE = 0.1, 0.5  # shares of noise in what was added; few elements are explained by chance
RESIZED = 0.25  # largest difference of the size from 1 that noise makes


def is_cleared(trace: str) -> bool:
    """Say whether anything was cleared before the update."""
    return any(letter in trace for letter in CLEARED)


def is_uncleared(trace: str) -> bool:
    """Say whether a backward pass came and nothing was cleared, not even some of the parameters."""
    return not any(letter in trace for letter in (*CLEARED, "y")) and any(letter in trace for letter in BACKWARDS)


def never_cleared(history: History) -> Iterator[Finding]:
    """Find optimizers whose gradients are never cleared, or just once, such as before the loop."""
    yield from (_never_cleared_in_part(each) for each in history.trained() if _some_are_uncleared(each))
    for each in history.trained():
        seen = [measured for measured in measured_of(each, lambda trace: not is_cleared(trace)) if measured.kept]
        of_closures = count(each, lambda trace: "L" in trace).updates  # they have their own rule
        cleared = count(each, is_cleared)
        if len(seen) < LEAST or not all(all_is_left(one.kept) for one in seen) or of_closures or cleared.updates > 1:
            continue
        if _some_are_uncleared(each):
            continue  # reported above
        once = f"; it was cleared only before update {cleared.first}" if cleared.updates else ""
        scale = scale_of_kept(each)
        divided = f"; unscale_() then divides all of .grad, so 1/{scale:,g} of it is kept" if scale > 1 else ""
        yield Finding(
            "never-cleared",
            "error",
            seen[0].update,
            tuple(each.places_of(BACKWARDS + "S")),
            f"{each.name}: .grad still held all of the last gradient {counted_measured(seen, seen)}{once}{divided}",
            f"optimizer.zero_grad() {_when_to_clear(each)}",
        )


def _never_cleared_in_part(history: OptimizerHistory) -> Finding:
    seen = history.seen.uncleared
    of_them = "its gradients" if len(seen.parameters) == 1 else "their gradients"
    return Finding(
        "never-cleared",
        "error",
        seen.since,
        tuple(history.places_of("y" if history.places.get("y") else BACKWARDS + "S")),
        f"{history.name}: nothing clears {listed(list(seen.parameters.values()))}, so {of_them} add up; only "
        f"{counted(seen.others, 'other parameter')} of this optimizer {'is' if seen.others == 1 else 'are'} cleared "
        f"(at {seen.looks} of {seen.looks} measured updates)",
        f"optimizer.zero_grad() {_when_to_clear(history)}",
    )


def _some_are_uncleared(history: OptimizerHistory) -> bool:
    seen = history.seen.uncleared
    return bool(seen.parameters) and seen.others > 0


def _when_to_clear(history: OptimizerHistory) -> str:
    """Return where to clear: before a single pass, or after the step.

    That keeps several passes together, and an optimizer that is created at every update may not exist earlier. If a
    loss of another optimizer leaves gradient after the step, only clearing before the first own pass removes it.
    """
    if history.seen.crossings:
        return "before its own first loss.backward() of each update"
    several = count(history, lambda trace: backwards_in(trace) > 1).updates
    return "after each optimizer.step()" if several or history.created > 1 else "before each loss.backward()"


def cleared_before_step(history: History) -> Iterator[Finding]:
    """Find gradients cleared between the backward pass and the step, so that the step finds none.

    The evidence is a call of zero_grad(), or only zeros at the measured steps.
    """

    def starved(trace: str) -> bool:
        return backwards_in(trace) > 0 and gathered_in(trace) == 0

    def without_call(trace: str) -> bool:
        return gathered_in(trace) > 0 and "L" not in trace

    for each in history.trained():
        by_call = 2 * count(each, starved).updates >= each.updates
        seen = measured_of(each, starved if by_call else without_call)
        seen = [measured for measured in seen if by_call or measured.size is not None]
        shown = [measured for measured in seen if measured.empty]
        if len(shown) < LEAST or len(shown) < len(seen):
            continue
        yield Finding(
            "cleared-before-step",
            "error",
            shown[0].update,
            tuple(each.places_of("zS" if by_call and each.places.get("z") else BACKWARDS + "S")),
            f"{each.name}: .grad is cleared between the backward pass and the step, so the step finds no gradient "
            f"({counted_measured(shown, seen)})",
            "clear after optimizer.step(), not before it"
            if count(each, lambda trace: backwards_in(trace) > 1).updates
            else "clear before loss.backward() or after optimizer.step()",
        )


def cleared_once_an_epoch(history: History) -> Iterator[Finding]:
    """Find gradients that are cleared only once in several updates."""
    for each in history.trained():
        cleared, not_cleared = count(each, is_cleared), count(each, is_uncleared)
        if cleared.updates < 2 or not_cleared.updates < max(LEAST, cleared.updates):
            continue
        seen = [measured for measured in measured_of(each, is_uncleared) if measured.kept]
        if len(seen) < LEAST or not all(all_is_left(one.kept) for one in seen):
            continue
        yield Finding(
            "cleared-once-an-epoch",
            "error",
            seen[0].update,
            tuple(_where_cleared(each)),
            f"{each.name}: .grad is cleared before only {cleared.updates} of {each.updates} updates, such as once per "
            f"epoch; at the others it still holds all of the last gradient ({counted_measured(seen, seen)})",
            f"optimizer.zero_grad() {_when_to_clear(each)}",
        )


def accumulation_without_effect(history: History) -> Iterator[Finding]:
    """Find gradients cleared within windows, so that only the last of their micro-batches count.

    If no call clears them, measurements alone are the evidence. Passes that also reach an input that asks for
    gradient may be attacks.
    """

    def for_nothing(measured: MeasuredUpdate) -> bool:
        one_line = measured.lines <= 1  # passes from several lines don't accumulate; one may only probe the gradient
        aligned = measured.cosine is not None and measured.cosine > 1 - ALIKE
        as_left = aligned or measured.noise > LEAST_NOISE  # else set by hand
        lost = [abs(each) <= ALIKE for each in measured.joins]
        clear = all(gone or abs(each - 1) <= ALIKE for gone, each in zip(lost, measured.joins, strict=True))
        return as_left and one_line and not measured.moved and any(lost) and clear

    def as_it_was(measured: MeasuredUpdate) -> bool:
        return measured.size is not None and abs(measured.size - 1) <= (RESIZED if measured.noise else ALIKE)

    for each in history.trained():
        in_a_row = emptied_between(each) and 2 * count(each, _in_a_row).updates >= each.updates
        wasted = _in_a_row if in_a_row else _cleared_between
        found, seen = count(each, wasted), measured_of(each, wasted)
        if len(seen) < LEAST or not all(map(for_nothing, seen)) or 2 * found.updates < each.updates:
            continue
        noise = [measured.noise for measured in seen if measured.noise]
        if noise and median(noise) < USUAL_NOISE:
            continue
        if not any(measured.lines for measured in seen) or each.seen.asked:  # without lines, they are unknown
            continue
        scaled = any(letter in trace for trace, _ in each.traces() for letter in "cu")
        if not scaled and not all(map(as_it_was, seen)):
            continue
        trace = max((one for one in each.stretches if wasted(one.trace)), key=lambda one: one.times).trace
        left = 1 if in_a_row else gathered_in(trace)
        last, counts = ("the last", "counts") if left == 1 else (f"the last {left}", "count")
        yield Finding(
            "accumulation-without-effect",
            "error",
            found.first,
            tuple(each.places_of(BACKWARDS + "S") if in_a_row else _where_cleared(each)),
            f"{each.name}: only {last} of {backwards_in(trace)} backward passes per update {counts}, because .grad is "
            f"cleared in between ({counted_measured(seen, seen)})",
            "optimizer.zero_grad() once per window, after optimizer.step()",
        )


def _where_cleared(history: OptimizerHistory) -> list[Place]:
    """Return the lines that clear, or that first find `.grad` cleared; if unknown, the passes and steps around it."""
    known = next((letter for letter in CLEARED if history.places.get(letter)), BACKWARDS + "S")
    return history.places_of(known)


def _cleared_between(trace: str) -> bool:
    """Say whether gradients are cleared between two backward passes of one update, within an epoch.

    >>> [_cleared_between(trace) for trace in ("zBzBzB", "BBBzB", "zBzBz", "zBBezbB")]
    [True, True, False, False]
    """
    letters = only("BLkyzneb", own_part(trace)).replace("n", "z")
    return re.fullmatch(r"[zebB]*Bz+B[zebB]*", letters) is not None and letters.rstrip("eb").endswith("B")


def _in_a_row(trace: str) -> bool:
    """Say whether several backward passes follow each other without a known clearing.

    >>> _in_a_row("zBBB"), _in_a_row("zBzB"), _in_a_row("zB")
    (True, False, False)
    """
    letters = only("BLkzny", own_part(trace)).replace("n", "z")
    return re.fullmatch(r"z*BB+", letters) is not None


def partly_kept(history: History) -> Iterator[Finding]:
    """Find a constant part of the gradient that is kept between updates, which raises the effective learning rate."""
    for each in history.trained():
        keep = keep_of(each)
        seen = [measured for measured in each.measured if measured.kept]
        if scale_of_kept(each) > 1:  # a GradScaler divides the kept part
            continue
        if keep is None or not keep.steady or not ALIKE < keep.median < 1 - ALIKE or len(seen) <= LEAST:
            continue
        yield Finding(
            "partly-kept",
            "note",
            seen[0].update,
            tuple(each.places_of(BACKWARDS + "S")),
            f"{each.name}: {keep.median:.3g} of the last gradient stays in .grad ({mode_of(each)}), which multiplies "
            f"the learning rate of plain SGD by {1 / (1 - keep.median):.3g} "
            f"({counted_measured(seen, seen)})",
            "nothing, if you meant it; the usual way is optimizer.zero_grad() and the optimizer's own momentum= or "
            "betas=",
        )
