"""An optimizer of a script under an imposed mode.

After a step, keep × gradient is remembered. The next backward pass starts with this kept gradient in `.grad`, with or
without clearing by the script in between. So the script's own clearing, at any line, has no effect on it. If the
script clears again before the step, the kept gradient is put back at the next backward pass.
"""

from __future__ import annotations

from operator import is_
from typing import TYPE_CHECKING, Any

from gradlab.comparison.checking import NO_PASS, SHARED, Check
from gradlab.comparison.gradients import copied, is_empty, scaled, zeros_like
from gradlab.comparison.owners import Owners

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.optim import Optimizer

    from gradlab.comparison.gradients import Grads
    from gradlab.modes import Mode


class ImposedOptimizer:
    """An optimizer of the script, or several with the same parameters, and their kept gradients.

    Attributes:
        updates: the number of its steps that were taken.
        calls: the number of calls of its step(), taken or left out.
        passes: the number of backward passes since the last call.
        changed_within: whether the script changed gradients, such as by clipping, before a step that was left out.
        owners: the optimizers.
        sharing: others that have some of the same parameters.
        check: whether the mode took effect.
    """

    def __init__(self, optimizer: Optimizer, mode: Mode, *, in_window: bool = False) -> None:
        """Serve the optimizer; `in_window` says that there were backward passes before it was created."""
        self.mode = mode
        self.updates = self.calls = self.passes = 0
        self.changed_within = False
        self.check = Check(mode)
        self.owners = Owners(optimizer, self.check.unwatch)
        self.sharing: list[ImposedOptimizer] = []
        self._calls_of_sharing: list[int] = []  # at the start of this window
        self._is_disturbed = False  # one of them has stepped within this window
        self._in_window = in_window
        self._parameters: list[Tensor] = []  # of this window, from its first backward pass on
        self._kept: Grads = []  # by parameter, once a step was taken
        self._kept_ids: list[int] = []  # of these parameters
        self._has_kept = False
        self._stepped: Grads = []  # the gradients of the last step, which kept is a multiple of
        self._stepped_versions: list[int] = []
        self._factor: float | None = None  # kept / these gradients; None if it cannot be computed again
        self._placed: Grads = []  # what was put into .grad at the start of this window
        self._cleared: Grads = []  # zeros that were written at the start of this window, where None was meant
        self._cleared_versions: list[int] = []  # of these tensors
        self._is_due = True  # the kept gradient must be put into .grad at the next backward pass
        self._left: Grads = []  # .grad after the last backward pass
        self._versions: list[int] = []  # of these tensors
        self._scaler: Any = None  # the GradScaler that unscaled the gradient of the last step
        self._scaling: Any = None  # the same for the coming step
        self._was_same = False  # whether nobody touched the gradients before they were unscaled
        self._scale = 1.0  # at the start of this window

    def share_with(self, other: ImposedOptimizer) -> None:
        """Note that another optimizer has some of the same parameters."""
        self.sharing.append(other)
        other.sharing.append(self)

    # Backward passes

    def put(self) -> bool:
        """Put the kept gradient into `.grad` at the first backward pass after a step; return whether it is that."""
        if not self._is_due:
            return False
        self._parameters = parameters = self.owners.parameters()
        self._scale = 1.0 if self._scaler is None else self._scaler.get_scale()
        if not self._kept_ids:
            return True
        if self._kept_ids != [*map(id, parameters)]:  # more parameters, say
            self._compute_kept()
            known = dict(zip(self._kept_ids, self._kept, strict=True))
            self._kept = [known.get(id(each)) for each in parameters]
            self._kept_ids, self._stepped, self._factor = [*map(id, parameters)], [], None
            self._has_kept = any(each is not None for each in self._kept)
        if self._has_kept:
            if all(each.grad is None for each in parameters):
                self._placed = self._once_more()
                for parameter, placed in zip(parameters, self._placed, strict=True):
                    parameter.grad = placed
            else:
                self._placed = [*map(_written, parameters, self._copies())]
        else:
            self._placed = [None if each.grad is None else _written(each, None) for each in parameters]
            self._cleared = [*self._placed]
            self._cleared_versions = _versions(self._cleared)
        return True

    def before_pass(self) -> None:
        """Put back what the script has cleared since the last backward pass, and prepare the check."""
        check = self.check
        if self.sharing:
            calls = [each.calls for each in self.sharing]
            if self._is_due:
                self._calls_of_sharing = calls
            self._is_disturbed = calls != self._calls_of_sharing
        if self._is_due:
            self._is_due = False
            check.open(self._parameters, self._placed, self.calls + 1, self._scale)
        elif self._has_kept or check.active:
            self._put_back()
        if check.active:
            check.before_pass(self._parameters)

    def after_pass(self) -> None:
        """Note what the backward pass left in `.grad`."""
        self.passes += 1
        if self._cleared:
            self._remove_zeros()
        self._left = left = [each.grad for each in self._parameters]
        self._versions = _versions(left)
        if self.check.active:
            self.check.after_pass(self._parameters, left)

    def _remove_zeros(self) -> None:
        """Leave None, as zero_grad() does, where the first backward pass of the window added nothing to our zeros."""
        versions = zip(_versions(self._cleared), self._cleared_versions, strict=True)
        for parameter, cleared, (now, before) in zip(self._parameters, self._cleared, versions, strict=True):
            if cleared is not None and parameter.grad is cleared and now == before:
                parameter.grad = None
        self._cleared = []

    def _put_back(self) -> None:
        grads = [each.grad for each in self._parameters]
        if self._is_same(grads):
            return
        check, copies, cleared = self.check, None, False
        for nth, (grad, left) in enumerate(zip(grads, self._left, strict=True)):
            if grad is left and _versions([grad]) == self._versions[nth : nth + 1]:
                continue
            if left is not None and is_empty(grad):
                cleared = True
                if self._has_kept:
                    copies = copies or self._copies()
                    if copies[nth] is not None:
                        _written(self._parameters[nth], copies[nth])
                if check.active:
                    check.cleared(nth)
            else:
                self.changed_within = True
                if check.active:
                    check.changed(nth, grad)
        if cleared and check.active:
            check.cleared_within()

    def _once_more(self) -> Grads:
        """Return the kept gradient, to be put into `.grad`, so that it can be put there again."""
        self._compute_kept()
        versions = self._stepped_versions
        if self._scale == 1 and self._factor is not None and versions == _versions(self._stepped):
            placed, self._kept = self._kept, []  # computed again where it is needed, which is rare
            return placed
        return self._copies()

    def _copies(self) -> Grads:
        """Return copies of the kept gradient, multiplied by the scale of the GradScaler."""
        self._compute_kept()
        scale = 1.0 if self._scaler is None else self._scaler.get_scale()
        return scaled(self._kept, (scale,))

    def _compute_kept(self) -> None:
        """Compute the kept gradient, if it was put into `.grad` without a copy."""
        if self._kept or self._factor is None:
            return
        if _versions(self._stepped) != self._stepped_versions:  # who would change old gradients now?
            self.check.lost()
        self._kept = scaled(self._stepped, (self._factor,))

    def _is_same(self, grads: Grads) -> bool:
        """Say whether nobody touched the gradients since the last backward pass."""
        left = self._left
        return len(grads) == len(left) and all(map(is_, grads, left)) and self._versions == _versions(grads)

    # Steps

    def unscales(self, scaler: Any) -> None:
        """Note that a GradScaler is about to unscale the gradients."""
        self._scaling = scaler
        self._was_same = self._is_same([each.grad for each in self._parameters])

    def unscaled(self) -> None:
        """Note that it has unscaled them."""
        self.check.unscaled(1 / self._scaling.get_scale())
        if self._was_same:
            self._versions = _versions(self._left)

    def unscales_itself(self, scaler: Any) -> None:
        """Note that the coming step unscales the gradients, unless that was done before."""
        self._scaling = self._scaling or scaler

    def before_step(self) -> tuple[bool, str | None]:
        """Judge the gradient of this step. Return whether to take it, as one in `every` is, and the verdict."""
        if not self.passes:
            self._parameters = self.owners.parameters()
        grads = [each.grad for each in self._parameters]
        every, verdict = self.mode.every, None
        if self.passes or not self._in_window:
            same = self._is_same(grads)
            verdict = self.check.verdict(grads, same=same, passes=self.passes, left=self._left)
            if every > 1 and not same and (self.calls + 1) % every:
                self.changed_within = True
        if self._is_disturbed and self.calls:
            verdict = SHARED
        return every == 1 or (self.calls + 1) % every == 0, verdict

    def is_idle(self) -> bool:
        """Say whether a step would do nothing: there was no backward pass, and no parameter has a gradient."""
        return not self.passes and all(each.grad is None for each in self.owners.parameters())

    def count_idle_step(self) -> None:
        """Count a step that does nothing because the script has cleared what the mode keeps."""
        if self._has_kept and self._is_due:
            self.check.count(NO_PASS)

    def stepped(self, verdict: str | None, *, taken: bool) -> None:
        """Remember the kept gradient after a step, or all of the gradient after one that was left out."""
        self.check.count(verdict)
        self.calls += 1
        self.updates += taken
        mode, parameters = self.mode, self._parameters
        grads = [each.grad for each in parameters]
        keep: float | None = mode.keep if taken else 1.0
        self._factor = None
        if taken and mode.rewrite_grad is not None:
            self._kept, keep = self._rewritten(mode.rewrite_grad, grads), None
        elif keep == 0:
            self._kept = zeros_like(grads) if mode.fill else [None] * len(grads)
        else:
            assert keep is not None
            self._kept = scaled(grads, (keep,))
            self._stepped, self._stepped_versions, self._factor = grads, _versions(grads), keep
        self._kept_ids = [*map(id, parameters)]
        self._has_kept = (keep != 0 or mode.fill) and any(each is not None for each in self._kept)
        self._scaler, self._scaling = self._scaling, None
        self._in_window = False
        self.check.close(parameters, self.calls + 1, keep, stepped=True)
        self._end_window()

    def skipped(self) -> None:
        """Leave the kept gradient unchanged: a GradScaler skipped this step."""
        self._scaling = None
        self.check.close([], self.calls + 1, None, stepped=False)
        self._end_window()

    def _rewritten(self, rewrite_grad: Callable[[Any, int], object], grads: Grads) -> Grads:
        """Return what a user's own mode leaves; the script sees its gradients unchanged."""
        for each, grad in zip(self._parameters, grads, strict=True):
            each.grad = copied(grad)
        try:
            rewrite_grad(self._parameters, self.updates - 1)
            return [copied(each.grad) for each in self._parameters]
        finally:
            for each, grad in zip(self._parameters, grads, strict=True):
                each.grad = grad

    def _end_window(self) -> None:
        self.owners.remember(self._parameters)
        self.passes, self._is_due = 0, True
        self._parameters, self._left, self._versions, self._placed, self._cleared = [], [], [], [], []


def _written(parameter: Tensor, grad: Tensor | None) -> Tensor | None:
    """Write a gradient, or zeros, into the tensor in `.grad`, which the script may hold; return that tensor.

    Where that is impossible, it is replaced.
    """
    own = parameter.grad
    if own is None or own.requires_grad or own.is_sparse or own.is_inference():
        parameter.grad = grad
    elif grad is None:
        own.zero_()
    elif grad.is_sparse or grad.dtype != own.dtype or grad.device != own.device:
        parameter.grad = grad
    else:
        own.copy_(grad)
    return parameter.grad


def _versions(grads: Grads) -> list[int]:
    """Return how often each tensor was changed in place; -1 for None."""
    return [-1 if each is None else each._version for each in grads]  # noqa: SLF001 - no public equivalent
