"""When gradients are cleared: never, too early, too seldom, too often."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradlab.audit.findings.finding import LEAST, Finding, all_is_left, count, counted_measured, measured_of
from gradlab.audit.history.keep import ALIKE, emptied_between, keep_of, mode_of
from gradlab.audit.history.trace import BACKWARDS, CLEARED, backwards_in, gathered_in, only, own_part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlab.audit.history.history import History, MeasuredUpdate, OptimizerHistory
    from gradlab.audit.places import Place


def is_cleared(trace: str) -> bool:
    """Say whether anything was cleared before the update."""
    return any(letter in trace for letter in CLEARED)


def is_uncleared(trace: str) -> bool:
    """Say whether gradient came, and nothing was cleared, of a part of the parameters neither."""
    return not any(letter in trace for letter in (*CLEARED, "y")) and any(letter in trace for letter in BACKWARDS)


def never_cleared(history: History) -> Iterator[Finding]:
    """Find optimizers whose gradients nothing ever clears."""
    for each in history.trained():
        seen = [measured for measured in each.measured if measured.kept]
        other = count(each, lambda trace: is_cleared(trace) or "L" in trace).updates  # a closure is another story
        if len(seen) < LEAST or not all(all_is_left(one.kept) for one in seen) or other:
            continue
        yield Finding(
            "never-cleared",
            "error",
            seen[0].update,
            tuple(each.places_of(BACKWARDS + "S")),
            f"{each.kind}: all of the last gradient was still in .grad {counted_measured(seen, seen)}",
            "optimizer.zero_grad() before each loss.backward()",
        )


def cleared_before_step(history: History) -> Iterator[Finding]:
    """Find gradients cleared between the backward pass and the step, which has nothing to go by.

    By a call; or by what was measured, where all that any backward pass has left is zeros at the step.
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
            f"{each.kind}: .grad is cleared after the backward pass and before the step, which has nothing to go by "
            f"({counted_measured(shown, seen)})",
            "clear before loss.backward() or after optimizer.step(), not in between",
        )


def cleared_once_an_epoch(history: History) -> Iterator[Finding]:
    """Find gradients cleared now and then only, with several updates between two clearings."""
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
            f"{each.kind}: .grad is cleared before {cleared.updates} of {each.updates} updates only, such as once an "
            f"epoch; in between all of the last gradient is still there "
            f"({counted_measured(seen, seen)})",
            "optimizer.zero_grad() before each loss.backward() that begins a new update",
        )


def accumulation_without_effect(history: History) -> Iterator[Finding]:
    """Find gradients cleared at every micro-batch, so that the last one of a window alone counts.

    Where no call does so, it rests on what was measured alone.
    """

    def for_nothing(measured: MeasuredUpdate) -> bool:
        one_line = measured.lines <= 1  # passes of several lines are no accumulation: a probe of the gradient, say
        as_left = measured.cosine is not None and measured.cosine > 1 - ALIKE  # else it was put together by hand
        return as_left and one_line and not measured.moved and bool(measured.joins) and max(measured.joins) <= ALIKE

    def as_it_was(measured: MeasuredUpdate) -> bool:
        return measured.size is not None and abs(measured.size - 1) <= ALIKE

    for each in history.trained():
        in_a_row = emptied_between(each) and 2 * count(each, _in_a_row).updates >= each.updates
        wasted = _in_a_row if in_a_row else _by_turns
        found, seen = count(each, wasted), measured_of(each, wasted)
        if len(seen) < LEAST or not all(map(for_nothing, seen)) or 2 * found.updates < each.updates:
            continue
        if not any(measured.lines for measured in seen):  # then nothing is known of them
            continue
        scaled = any(letter in trace for trace, _ in each.traces() for letter in "cu")
        if not scaled and not all(map(as_it_was, seen)):
            continue
        trace = next(trace for trace, _ in each.traces() if wasted(trace))
        yield Finding(
            "accumulation-without-effect",
            "error",
            found.first,
            tuple(each.places_of(BACKWARDS + "S") if in_a_row else _where_cleared(each)),
            f"{each.kind}: of {backwards_in(trace)} backward passes before each update the last one alone counts: "
            f".grad is cleared in between ({counted_measured(seen, seen)})",
            "optimizer.zero_grad() once a window, after optimizer.step()",
        )


def _where_cleared(history: OptimizerHistory) -> list[Place]:
    """Return the lines that clear; without a call that does, those that find it done, or that it is done between."""
    known = next((letter for letter in CLEARED if history.places.get(letter)), BACKWARDS + "S")
    return history.places_of(known)


def _by_turns(trace: str) -> bool:
    """Say whether gradients are cleared between all of several backward passes.

    >>> _by_turns("zBzBzB"), _by_turns("zBBzB"), _by_turns("zBzBz")
    (True, False, False)
    """
    letters = only("BLkzn", own_part(trace)).replace("n", "z")
    return re.fullmatch(r"z*(Bz+)+B", letters) is not None


def _in_a_row(trace: str) -> bool:
    """Say whether several backward passes come in a row, as far as is known.

    >>> _in_a_row("zBBB"), _in_a_row("zBzB"), _in_a_row("zB")
    (True, False, False)
    """
    letters = only("BLkzny", own_part(trace)).replace("n", "z")
    return re.fullmatch(r"z*BB+", letters) is not None


def partly_kept(history: History) -> Iterator[Finding]:
    """Find a part of the gradient kept from update to update: a choice, with a price."""
    for each in history.trained():
        keep = keep_of(each)
        seen = [measured for measured in each.measured if measured.kept]
        if keep is None or not keep.steady or not ALIKE < keep.median < 1 - ALIKE or len(seen) <= LEAST:
            continue
        yield Finding(
            "partly-kept",
            "note",
            seen[0].update,
            tuple(each.places_of(BACKWARDS + "S")),
            f"{each.kind}: {keep.median:.3g} of the last gradient is kept in .grad: {mode_of(each)}, which multiplies "
            f"the learning rate of plain SGD by {1 / (1 - keep.median):.3g} "
            f"({counted_measured(seen, seen)})",
            "nothing, where it is meant; momentum= of the optimizer is the usual way",
        )
