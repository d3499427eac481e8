"""An optimizer of a script under an imposed mode: what is kept between its steps, and whether that reached them.

After a step, keep × gradient is remembered. At the next backward pass it is put into `.grad`, whatever the script did
there in between. So the script's own clearing, at any line, has no effect on what is kept.

The gradient of a step is then compared with what it must be: what was kept, plus the fresh gradients. These are read
from autograd, before it adds them to `.grad`.
"""

from __future__ import annotations

import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from gradlab.audit.recording.optimizers import next_measured

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor
    from torch.optim import Optimizer

    from gradlab.modes import Mode

    Grads = list[Tensor | None]

ALIKE = 0.7  # least cosine of a gradient that the script changed before the step, such as by noise or clipping

NO_PASS = "the script steps without a backward pass since the last step"
REPLACED = "the script replaces .grad between the backward pass and the step"
CLEARED = "the script clears .grad between the backward pass and the step"
LOST = "what was kept did not reach .grad"


class _State(NamedTuple):
    """A gradient as it was after a backward pass."""

    grad: Tensor | None
    version: int

    def is_same(self, grad: Tensor | None) -> bool:
        return grad is self.grad and (grad is None or grad._version == self.version)


class ImposedOptimizer:
    """An optimizer of the script, or several with the same parameters, and what is kept of their gradients.

    Attributes:
        number: its number in the order of creation, from 1.
        updates: the number of its steps that were taken.
        calls: the number of calls of its step(), taken or skipped.
        passes: the number of backward passes since the last call.
    """

    def __init__(self, optimizer: Optimizer, number: int, mode: Mode) -> None:
        self.kind, self.number = type(optimizer).__name__, number
        self._optimizers = [weakref.ref(optimizer)]  # with the same parameters, one after the other
        self.mode = mode
        self.updates = self.calls = self.passes = 0
        self.scaler: Any = None  # the GradScaler that unscales its gradients
        self.good, self.faults = 0, Counter[str]()
        self._kept: Grads = []  # by parameter, once a step was taken
        self._parameters = parameters_of(optimizer)
        self._is_due = True  # what is kept must be put into .grad at the next backward pass
        self._left: list[_State] = []  # after the last backward pass
        self._next_checked, self._check_all = 2, False
        self._watched: list[tuple[Any, Any]] = []  # nodes of autograd with our hooks
        self._fresh: dict[int, Tensor] = {}  # by position of the parameter, in the running backward pass
        self._expected: Grads | None = None  # the gradient after the last pass; None where it is not checked
        self._fault = ""  # of this step

    def parameters(self) -> list[Tensor]:
        """Return the parameters in order, those of the latest optimizer that is still alive."""
        for reference in reversed(self._optimizers):
            if (optimizer := reference()) is not None:
                return parameters_of(optimizer)
        return self._parameters

    def serves(self, optimizer: Optimizer) -> bool:
        """Say whether this is for the given optimizer."""
        return any(each() is optimizer for each in self._optimizers)

    def join(self, optimizer: Optimizer) -> bool:
        """Serve this optimizer too if it has the same parameters; return whether it has."""
        if [*map(id, parameters_of(optimizer))] != [*map(id, self.parameters())]:
            return False
        self._optimizers = [each for each in self._optimizers if each() is not None]
        self._optimizers.append(weakref.ref(optimizer))
        return True

    # Backward passes

    def before_pass(self) -> None:
        """Put what is kept into `.grad`, if the script has stepped or cleared since."""
        if self._is_due:
            self._parameters = self.parameters()
            self._put()
            self._is_due, self._fault = False, ""
            if self._is_checked():
                self._watch()
                self._expected = [_copied(each.grad) for each in self._parameters]
        elif self._expected is not None or any(each is not None for each in self._kept):
            self._put_again()
        self._fresh.clear()

    def after_pass(self) -> None:
        """Compare `.grad` with what was kept plus the fresh gradients."""
        self.passes += 1
        grads = [each.grad for each in self._parameters]
        self._left = [_State(each, 0 if each is None else each._version) for each in grads]
        if self._expected is None:
            return
        for nth, fresh in self._fresh.items():
            before = self._expected[nth]
            self._expected[nth] = fresh if before is None else before + fresh
        if not all(map(_equal, grads, self._expected)):
            self._fault = self._fault or LOST
        self._fresh.clear()

    def _put(self) -> None:
        """Put what is kept into `.grad`, multiplied by the current factor of a GradScaler."""
        if not self._kept:
            return
        scale = 1.0 if self.scaler is None else self.scaler.get_scale()
        for parameter, kept in zip(self._parameters, self._kept, strict=False):
            _set_grad(parameter, kept, scale)

    def _put_again(self) -> None:
        """Put back what the script has cleared since the last backward pass."""
        scale = 1.0 if self.scaler is None else self.scaler.get_scale()
        for nth, (parameter, left) in enumerate(zip(self._parameters, self._left, strict=False)):
            grad = parameter.grad
            kept = self._kept[nth] if nth < len(self._kept) else None
            if left.grad is not None and _is_empty(grad):
                if kept is not None and not _is_empty(kept):
                    _set_grad(parameter, kept, scale)
                if self._expected is not None:
                    self._expected[nth] = _copied(parameter.grad)
            elif self._expected is not None and not left.is_same(grad):  # clipped, say: the script's own business
                self._expected[nth] = _copied(grad)

    # Steps

    def before_step(self) -> bool:
        """Judge the gradient of this step. Return whether to take it: one in `every` is taken."""
        grads = [each.grad for each in self._parameters]
        fault = NO_PASS if not self.passes else self._fault or self._fault_of_step(grads)
        if fault:
            self.faults[fault] += 1
        elif fault is not None:
            self.good += 1
        self.calls += 1
        if self.calls % self.mode.every == 0:
            return True
        self._keep(grads, 1.0)
        self._end_window()
        return False

    def after_step(self) -> None:
        """Remember what is kept after a step."""
        self.updates += 1
        if self.mode.rewrite_grad is None:
            self._keep([each.grad for each in self._parameters], self.mode.keep)
        else:
            self._keep_own(self.mode.rewrite_grad)
        self._end_window()

    def skipped(self) -> None:
        """Leave what is kept unchanged: a GradScaler skipped this step."""
        self._end_window()

    def _keep(self, grads: Grads, keep: float) -> None:
        if keep == 0:
            fill = self.mode.fill
            self._kept = [torch.zeros_like(each) if fill and each is not None else None for each in grads]
        elif any(each is None or each.layout != torch.strided for each in grads):
            self._kept = [None if each is None else each.detach() * keep for each in grads]
        else:
            self._kept = list(torch._foreach_mul([each.detach() for each in grads if each is not None], keep))

    def _keep_own(self, rewrite_grad: Callable[[Any, int], object]) -> None:
        """Keep what a user's own mode leaves; the script sees its gradients unchanged."""
        before = [each.grad for each in self._parameters]
        for each in self._parameters:
            each.grad = _copied(each.grad)
        rewrite_grad(self._parameters, self.updates - 1)
        self._kept = [each.grad for each in self._parameters]
        for each, grad in zip(self._parameters, before, strict=True):
            each.grad = grad

    def _end_window(self) -> None:
        self.passes, self._is_due = 0, True
        self._expected, self._left = None, []
        if self._watched and not self._is_checked():
            self.unwatch()

    # The check

    def _is_checked(self) -> bool:
        """Say whether this step's gradient is compared by its values: the first 100, then ever fewer."""
        if self._check_all or self.calls + 1 < 2:
            return True
        while self.calls + 1 > self._next_checked:
            self._next_checked = next_measured(self._next_checked, None)
        return self.calls + 1 == self._next_checked

    def _fault_of_step(self, grads: Grads) -> str | None:
        """Return what is wrong with the gradient of a step, "" if nothing is, None if unknown."""
        same = len(grads) == len(self._left) and all(left.is_same(grad) for left, grad in zip(self._left, grads))
        if same and self._expected is None:
            return ""
        if all(map(_is_empty, grads)) and not all(_is_empty(each.grad) for each in self._left):
            return CLEARED
        if self._expected is None:
            self._check_all = True  # the script changes gradients: from now on, compare values at every step
            return None
        wanted = self._expected
        if all(_is_empty(each) for each in wanted):
            return "" if all(map(_is_empty, grads)) else REPLACED
        if all(map(_is_empty, grads)):
            return CLEARED
        if same or all(map(_equal, grads, wanted)) or _cosine(grads, wanted) >= ALIKE:
            return ""
        return REPLACED

    def _watch(self) -> None:
        """Read the fresh gradients of coming passes from autograd."""
        if self._watched:
            return
        for nth, each in enumerate(self._parameters):
            if not each.requires_grad or not each.is_leaf:
                continue
            with torch.enable_grad():
                node = each.view_as(each).grad_fn.next_functions[0][0]  # type: ignore[union-attr]  # adds to .grad
            self._watched.append((node, node.register_prehook(self._reader(nth))))

    def _reader(self, nth: int) -> Callable[[Sequence[Tensor | None]], None]:
        fresh = self._fresh

        def read(grads: Sequence[Tensor | None]) -> None:
            if grads[0] is not None:
                fresh[nth] = fresh[nth] + grads[0] if nth in fresh else grads[0].detach()

        return read

    def unwatch(self) -> None:
        """Remove our hooks from autograd."""
        for _, handle in self._watched:
            handle.remove()
        self._watched.clear()


def parameters_of(optimizer: Optimizer) -> list[Tensor]:
    """Return the parameters of an optimizer in order."""
    return [each for group in optimizer.param_groups for each in group["params"]]


def _copied(grad: Tensor | None) -> Tensor | None:
    return None if grad is None else grad.detach().clone()


def _set_grad(parameter: Tensor, kept: Tensor | None, scale: float) -> None:
    """Replace `.grad` by scale × kept; clear it if nothing is kept."""
    if kept is not None:
        parameter.grad = kept.clone() if scale == 1 else kept * scale
    elif parameter.grad is not None:
        parameter.grad = None


def _is_empty(grad: Tensor | None) -> bool:
    return grad is None or not grad.any()


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    """Say whether two gradients are equal, bit for bit up to nan and the sign of zero."""
    if one is None or other is None:
        return one is other
    if torch.equal(one, other):
        return True
    return one.shape == other.shape and bool(torch.allclose(one, other, rtol=1e-5, atol=0, equal_nan=True))


def _cosine(grads: Grads, wanted: Grads) -> float:
    """Return the cosine between two gradients, over all parameters; 1 if either is not finite."""
    pairs = [(a.double(), b.double()) for a, b in zip(grads, wanted, strict=False) if a is not None and b is not None]
    dot = sum(float((a * b).sum()) for a, b in pairs)
    size = sum(float((a * a).sum()) for a, _ in pairs) * sum(float((b * b).sum()) for _, b in pairs)
    if not 0 < size < float("inf"):
        return 1.0 if size != 0 else 0.0
    return dot / size**0.5
