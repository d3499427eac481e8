"""The check that an imposed mode took effect: the gradient of each step against what it must be.

It must be keep × the gradient of the last step, plus the fresh gradients. The former is copied at the last step. The
latter are read from autograd, before it adds them to `.grad`. So the check depends on nothing that imposing writes.

The values are compared at the first 20 steps, then at fewer and fewer. At other steps the check only looks at
which tensors are in `.grad`, and whether they were changed after the backward pass. A changed gradient whose values
were not compared counts as the next changed one that was.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from gradlab.comparison.gradients import (
    added,
    are_empty,
    are_equal,
    are_shrunk,
    copied,
    exact_misfit,
    misfit,
    misfit_of_sum,
    scaled,
    zeros_like,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from gradlab.comparison.gradients import Grads
    from gradlab.modes import Mode

FIRST = 20  # steps whose values are all compared
SHARE = 8  # later, an eighth of the steps so far lies between two such steps
ALIKE = 0.5  # a misfit of gradient with the script's own noise, or with its own clipping of parts
ALIKE_BY_HAND = 0.75  # the same of gradient that the script combines from several passes
CLEARLY = 10  # times better that another explanation must fit

NO_PASS = "the script steps without a backward pass since the last step"  # noqa: S105 - a pass, not a word
ADDED = "the script adds the gradient of the last step before the step"
NOT_COMPARED = "the script changes .grad before a step whose values were not compared"
REPLACED = "the script replaces .grad between the backward pass and the step"
CLEARED = "the script clears .grad between the backward pass and the step"
SHARED = "the parameters are shared with another optimizer that steps at other backward passes"
LOST = "what was kept did not reach .grad"
NO_GRADIENT = "the optimizer's parameters never had a gradient"
NO_SECOND = "no optimizer took a second step with the same parameters, so nothing was kept"


class Check:
    """The check of one optimizer.

    Attributes:
        good: the number of steps whose gradient was what it must be.
        faults: the number of other steps, by reason.
        empty: the number of steps without any gradient, which show nothing.
        later: the number of good steps after the first, at which something may have been kept.
        altered: whether the script changed gradients before a good step in another way than by clipping or scaling.
        active: whether the values are compared in this window.
    """

    def __init__(self, mode: Mode) -> None:
        self.good = self.empty = self.later = 0
        self.faults = Counter[str]()
        self.active = self.altered = False
        self._unknown = 0  # steps with a changed gradient, since one was compared
        self._mode = mode
        self._next, self._dense_until = 2, FIRST
        self._usually_changed = False  # the script clips, say, so it changes gradients before the step
        self._last: dict[int, Tensor | None] | None = None  # the gradient of the last step, by id of the parameter
        self._keep: float | None = 1.0  # of that gradient; None where a user's own mode decides
        self._is_first = True
        self._base: Grads = []  # what was kept, as of the start of this window
        self._expected: Grads = []
        self._last_grads: Grads = []  # those of the last step, by position of the parameter
        self._changed_verdict = NOT_COMPARED  # on the last changed gradient that was compared
        self._fresh: list[dict[int, Tensor]] = []  # by position of the parameter, for each pass of this window
        self._starts = 1  # of this window: one more for each clearing within it
        self._fault = ""
        self._watched: list[tuple[Any, Any]] = []  # nodes of autograd with our hooks
        self._watched_key: list[object] = []

    # A window

    def open(self, parameters: list[Tensor], placed: Grads, call: int, scale: float) -> None:
        """Begin the window of this call of step(); `placed` is what was put into `.grad`."""
        self._fault, self._starts = "", 1
        self.active = self.wants(call)
        if not self.active:
            return
        last = self._last
        self._is_first = last is None
        if last is None or self._keep is None:
            self._base = [copied(each) for each in (placed or [p.grad for p in parameters])]
        else:
            self._last_grads = grads = [last.get(id(p)) for p in parameters]
            if self._keep == 0:
                self._base = zeros_like(grads) if self._mode.fill else [None] * len(grads)
            else:
                self._base = scaled(grads, (self._keep, scale) if scale != 1 else (self._keep,))
        self._expected = list(self._base)
        self._fresh = []
        for nth, parameter in enumerate(parameters):
            if placed and parameter.grad is not placed[nth]:  # another optimizer of the script has it too
                self._expected[nth] = copied(parameter.grad)

    def before_pass(self, parameters: list[Tensor]) -> None:
        """Read the fresh gradients of the coming pass."""
        self._fresh.append({})
        self._watch(parameters)

    def cleared(self, nth: int) -> None:
        """Note that the script cleared a gradient within the window, and that what was kept was put back."""
        self._expected[nth] = None if self._is_first else self._base[nth]

    def lost(self) -> None:
        """Note that what was kept could not be put back."""
        self._fault = LOST

    def cleared_within(self) -> None:
        """Note that the script cleared gradients since the last backward pass."""
        self._starts += 1

    def changed(self, nth: int, grad: Tensor | None) -> None:
        """Note that the script changed a gradient within the window, such as by clipping: its own business."""
        self._expected[nth] = copied(grad)

    def after_pass(self, parameters: list[Tensor], grads: Grads) -> None:
        """Compare `.grad` with what was kept plus the fresh gradients."""
        for nth, fresh in self._fresh[-1].items():
            self._expected[nth] = added(self._expected[nth], fresh)
        for nth, (grad, expected) in enumerate(zip(grads, self._expected, strict=True)):
            if not are_equal(grad, expected):
                if getattr(parameters[nth], "_post_accumulate_grad_hooks", None):  # the script's own
                    self._expected[nth] = copied(grad)
                else:
                    self._fault = LOST

    def unscaled(self, by: float) -> None:
        """Note that a GradScaler divided the gradients."""
        if self.active:
            for grads in (self._base, self._expected):
                grads[:] = scaled(grads, (by,))
            self._fresh = [{nth: fresh * by for nth, fresh in each.items()} for each in self._fresh]

    # A step

    def verdict(self, grads: Grads, *, same: bool, passes: int, left: Grads) -> str | None:
        """Return what is wrong with the gradient of a step: "" if nothing is, None if that is unknown.

        Args:
            grads: the gradient.
            same: whether it is untouched since the last backward pass.
            passes: since the last step.
            left: what was in `.grad` after the last pass.
        """
        if not passes:
            return NO_PASS
        if self._fault:
            return self._fault
        if not self.active:
            if same and grads[0] is not None:
                return ""
            return self._verdict_on_tensors(grads, left, same=same)
        self._usually_changed |= not same
        verdict = self._verdict_on_values(grads, same=same)
        if verdict is not None and not same:
            self._changed_verdict = verdict
            self._count_unknown()
        return verdict

    def _verdict_on_values(self, grads: Grads, *, same: bool) -> str | None:
        if same or all(map(are_equal, grads, self._expected)):
            return None if are_empty(grads) and are_empty(self._expected) else ""
        return CLEARED if are_empty(grads) else self._verdict_on_changed(grads)

    def _verdict_on_tensors(self, grads: Grads, left: Grads, *, same: bool) -> str | None:
        if all(each is None for each in grads):
            return None if all(each is None for each in left) else CLEARED
        if same:
            return ""
        self._unknown += 1
        if not self._usually_changed:  # something new: look closer again
            self._usually_changed = True
            self._dense_until = self._next + FIRST
        return None

    def _verdict_on_changed(self, grads: Grads) -> str | None:
        """Judge a gradient that the script changed between the backward pass and the step."""
        rivals = [] if self._is_first or are_empty(self._base) else self._rivals()
        if any(all(map(are_equal, grads, each)) for each in rivals):
            return REPLACED
        fit, exact = misfit(grads, self._expected), exact_misfit(grads)
        if math.isnan(fit):
            return None
        if fit < exact:
            return ""
        all_fresh = self._all_fresh()
        if are_empty(all_fresh) or any(misfit(grads, each) < max(exact, fit / CLEARLY) for each in rivals):
            return REPLACED
        if self._adds_last(grads, exact):
            return ADDED
        fit_by_hand = 1.0 if rivals else misfit(grads, all_fresh)
        if fit_by_hand < exact or are_shrunk(grads, self._expected):
            return ""
        if fit > ALIKE and fit_by_hand > ALIKE_BY_HAND:
            return REPLACED
        self.altered = True
        return ""

    def _adds_last(self, grads: Grads, exact: float) -> bool:
        """Say whether the gradient is what it must be plus a multiple of the last step's gradient."""
        if not self._last or len(self._last_grads) != len(grads):
            return False
        if misfit(grads, self._last_grads) < exact:  # as where all numbers are clipped
            return False
        return misfit_of_sum(grads, self._expected, self._last_grads) < exact

    def _count_unknown(self) -> None:
        """Count the changed gradients that were not compared as the last one that was."""
        unknown, self._unknown = self._unknown, 0
        for _ in range(unknown):
            self.count(self._changed_verdict)

    def finish(self) -> None:
        """Count all steps that were not counted so far."""
        self._count_unknown()

    def _rivals(self) -> list[Grads]:
        """Return what the gradient would be if what was kept were lost, or in it several times."""
        lost = [
            e if e is None or kept is None else e - kept for e, kept in zip(self._expected, self._base, strict=True)
        ]
        if self._starts == 1:
            return [lost]
        several = self._all_fresh()
        for nth, kept in enumerate(self._base):
            if kept is not None:
                fresh = several[nth]
                several[nth] = kept * self._starts if fresh is None else kept * self._starts + fresh
        return [lost, several]

    def _all_fresh(self) -> Grads:
        """Return the fresh gradients of this window, also those that were cleared since."""
        found: Grads = [None] * len(self._expected)
        for of_pass in self._fresh:
            for nth, fresh in of_pass.items():
                found[nth] = added(found[nth], fresh)
        return found

    def count(self, verdict: str | None) -> None:
        """Count a step that was taken."""
        if verdict:
            self.faults[verdict] += 1
        elif verdict is None:
            self.empty += 1
        else:
            self.good += 1
            self.later += self._last is not None

    def close(self, parameters: list[Tensor], call: int, keep: float | None, *, stepped: bool) -> None:
        """End the window; after a step, copy its gradient if the next one, of this call, is checked."""
        was_active, self.active = self.active, False
        if not self.wants(call):
            if was_active:
                self.unwatch()
            if stepped and self._last is None:
                self._last = {}
            if not was_active:
                return
        elif stepped:
            self._last, self._keep = {id(p): copied(p.grad) for p in parameters}, keep
        self._base, self._expected, self._last_grads, self._fresh = [], [], [], []

    def wants(self, call: int) -> bool:
        """Say whether the gradient of this call of step(), from 1 on, is compared by its values."""
        if call <= self._dense_until:
            return True
        while self._next < call:
            self._next += max(1, self._next // SHARE)
        return self._next == call

    @property
    def counts(self) -> tuple[int, int, int]:
        """The number of good steps, of good ones after the first, and of steps without a gradient."""
        return self.good, self.later, self.empty

    def forget(self) -> None:
        """Release all tensors, but not what was found."""
        self.unwatch()
        self._last, self._base, self._expected, self._last_grads, self._fresh = None, [], [], [], []

    # Fresh gradients

    def _watch(self, parameters: list[Tensor]) -> None:
        import torch

        key: list[object] = [(id(p), p.dtype, p.device, p.requires_grad and p.is_leaf) for p in parameters]
        if key == self._watched_key:
            return
        self.unwatch()
        self._watched_key = key
        for nth, each in enumerate(parameters):
            if each.requires_grad and each.is_leaf:
                with torch.enable_grad():
                    node: Any = each.view_as(each).grad_fn
                accumulates = node.next_functions[0][0]
                self._watched.append((accumulates, accumulates.register_prehook(self._reader(nth))))

    def _reader(self, nth: int) -> Callable[[Sequence[Tensor | None]], None]:
        def read(grads: Sequence[Tensor | None]) -> None:
            if grads[0] is not None and self._fresh:
                fresh = self._fresh[-1]
                fresh[nth] = added(fresh.get(nth), grads[0])

        return read

    def unwatch(self) -> None:
        """Remove our hooks from autograd."""
        for _, handle in self._watched:
            handle.remove()
        self._watched.clear()
        self._watched_key = []
