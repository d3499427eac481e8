"""A mode imposed on a running script: its losses are logged, and its optimizers keep what the mode says.

Without a mode the script runs as it is written, and only its losses are logged.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Self

from gradlab.audit.hooks.patching import Patches
from gradlab.audit.hooks.untraced import untraced
from gradlab.comparison import refusals
from gradlab.comparison.doubts import Doubts
from gradlab.comparison.epochs import Epochs
from gradlab.comparison.losses import mark_scale, value_of
from gradlab.comparison.tracked import TrackedOptimizer, TrackedOptimizers
from gradlab.rows import Row

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.optim import Optimizer

    from gradlab.comparison.imposed import ImposedOptimizer
    from gradlab.modes import Mode

MOST_ENDS = 3  # SystemExit that a script may swallow before its process is ended


class Refused(SystemExit):
    """The script trains in a way that no mode can be imposed on. It ends with status 2."""


class Limits(NamedTuple):
    """Where a run ends before the script does."""

    passes: int | None = None
    updates: int | None = None


class Imposing:
    """Imposes a mode on all optimizers of a script, or on one of them, while it is open.

    Attributes:
        passes: the number of backward passes so far.
        updates: the largest number of steps of an optimizer so far, taken ones only.
        refused: why the script cannot be compared; "" if it can.
        ended: whether a limit ended the script.
        optimizers: all optimizers of the script.
        doubts: what may keep a mode from taking effect fully.
    """

    def __init__(
        self,
        mode: Mode | None,
        log: Callable[[Row], None],
        *,
        only: int | None = None,
        limits: Limits | None = None,
        on_start: Callable[[Imposing], None] | None = None,
        on_swallowed: Callable[[], None] | None = None,
    ) -> None:
        """Prepare to impose the mode.

        Args:
            mode: None to leave the script as it is written.
            log: gets the row of each backward pass.
            only: the number of the optimizer that the mode is imposed on; None for all.
            limits: where the script ends.
            on_start: called once, before the first backward pass or step for which there are parameters.
            on_swallowed: ends the process, because the script continued after SystemExit.
        """
        self.mode, self.only, self.limits = mode, only, limits
        self.passes = self.updates = 0
        self.refused, self.ended = "", False
        self.optimizers = TrackedOptimizers(mode, only)
        self.doubts = Doubts(mode, only)
        self._log, self._on_start, self._on_swallowed = log, on_start, on_swallowed
        self._epochs = Epochs()
        self._depth, self._thread = 0, 0  # of the running backward pass
        self._scaling = 0  # running calls of a GradScaler's step
        self._may_end = limits is not None  # or the script swallowed SystemExit
        self._ends = 0  # SystemExit that was raised
        self._is_off = False  # in a forked process
        self._every = 1 if mode is None or not mode.mean else mode.every
        self._patches = Patches()
        self._classes: set[type] = set()

    def __enter__(self) -> Self:
        from torch import autograd
        from torch.amp.grad_scaler import GradScaler
        from torch.optim import Optimizer
        from torch.utils.data import dataloader

        patches = self._patches
        patches.replace(autograd, "backward", self._backward)
        patches.around(Optimizer, "__init__", after=self._created)
        patches.replace(GradScaler, "scale", _marking)
        patches.around(GradScaler, "unscale_", self._unscales, self._unscaled)
        patches.replace(GradScaler, "step", self._scaled_step)
        patches.around(dataloader._BaseDataLoaderIter, "__next__", self._fetches, self._fetched)  # noqa: SLF001 - as below
        patches.around(dataloader._BaseDataLoaderIter, "_reset", self._restarted)  # noqa: SLF001 - no public equivalent
        self.doubts.install(patches)
        reference: weakref.ref[Imposing] = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _turn_off(reference))
        return self

    def __exit__(self, *_: object) -> None:
        self._patches.close()
        for each in self.optimizers.imposed:
            each.check.unwatch()

    def weights(self) -> list[Tensor]:
        """Return the parameters of all optimizers, in the order of construction."""
        return self.optimizers.parameters()

    # Backward passes

    def _backward(self, backward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:  # pragma: no cover - it runs under another file name
            if self._is_off or (self._depth and is_nested()):
                return backward(*args, **kwargs)
            args, kwargs = started(args, kwargs)
            try:
                return backward(*args, **kwargs)
            finally:
                ended()

        started, ended, is_nested = (
            untraced(self._pass_started),
            untraced(self._pass_ended),
            untraced(self._is_nested),
        )
        return call

    def _is_nested(self) -> bool:
        """Say whether this backward pass runs within another one, such as by a checkpoint. Refuse one beside it."""
        thread = threading.current_thread()
        if thread.ident != self._thread and not isinstance(thread, threading._DummyThread):  # noqa: SLF001 - of autograd
            self.refuse(refusals.IN_THREADS)
        return True

    def _pass_started(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if not self.passes:
            self._refuse(refusals.why_not())
        if self._may_end:
            self._end_at_limits()
        if self._on_start is not None:
            self._start()
        self._log(Row(self.passes, self.updates, self._epochs.of_pass(), value_of(args, kwargs)))
        self.passes += 1
        self._depth, self._thread = 1, threading.get_ident()
        self.optimizers.before_pass()
        return _divided(args, kwargs, self._every) if self._every > 1 else (args, kwargs)

    def _pass_ended(self) -> None:
        self._depth = 0
        self.optimizers.after_pass()

    def _start(self) -> None:
        if self._on_start is not None and self.weights():
            start, self._on_start = self._on_start, None
            start(self)

    # Steps

    def _created(self, args: tuple[Any, ...], error: BaseException | None) -> None:
        optimizer = args[0]
        if error is not None or self._is_off:
            return
        self._patch_step(optimizer)
        tracked = self.optimizers.add(optimizer, in_window=self.passes > 0)
        tracked.passes = self.passes
        if self._is_compared(tracked):
            self._refuse(refusals.why_not(optimizer))

    def _patch_step(self, optimizer: Optimizer) -> None:
        from torch.optim import Optimizer

        for kind in type(optimizer).__mro__:
            if "step" in vars(kind) and kind is not Optimizer:
                if kind not in self._classes:
                    self._classes.add(kind)
                    self._patches.replace(kind, "step", self._step)
                return

    def _step(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def call(optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:  # pragma: no cover - as above
            return stepped(step, optimizer, args, kwargs)

        stepped = untraced(self._stepped)
        return call

    def _stepped(
        self, step: Callable[..., Any], optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call an optimizer's step, unless the mode leaves this one out."""
        if self._is_off:
            return step(optimizer, *args, **kwargs)
        optimizers = self.optimizers
        tracked = optimizers.of(optimizer)
        if optimizers.stepping and optimizers.is_part(tracked):
            tracked.updates += 1
            return step(optimizer, *args, **kwargs)
        if self._depth or self.refused or not tracked.calls:
            self._check_first_step(tracked, optimizer)
        tracked.calls += 1
        closure, loss = kwargs.get("closure", args[0] if args else None), None
        if closure is not None:
            args, kwargs, loss = self._evaluated(tracked, optimizer, closure, args, kwargs)
        imposed = tracked.imposed
        if self._scaling and _skips_itself(optimizer):
            return step(optimizer, *args, **kwargs)
        if imposed is not None and imposed.is_idle():
            imposed.count_idle_step()
            return step(optimizer, *args, **kwargs)
        is_taken, verdict = (True, None) if imposed is None else imposed.before_step()
        result = self._take(step, tracked, optimizer, args, kwargs) if is_taken else loss
        if imposed is not None:
            imposed.stepped(verdict, taken=is_taken)
        if self._may_end:
            self._end_at_limits()
        return result

    def _take(
        self,
        step: Callable[..., Any],
        tracked: TrackedOptimizer,
        optimizer: Optimizer,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        stepping = self.optimizers.stepping
        stepping.append(tracked)
        try:
            result = step(optimizer, *args, **kwargs)
        finally:
            stepping.pop()
        tracked.passes = self.passes
        tracked.updates += 1
        self.updates = max(self.updates, tracked.updates)
        return result

    def _check_first_step(self, tracked: TrackedOptimizer, optimizer: Optimizer) -> None:
        if self.refused:
            self._end(2)
        if self._depth:
            self.refuse(refusals.WITHIN_BACKWARD)
        if self._is_compared(tracked):
            self._refuse(refusals.why_not(optimizer))
        self.doubts.at_first_step()
        if self._on_start is not None:
            self._start()

    def _is_compared(self, tracked: TrackedOptimizer) -> bool:
        return self.only in (None, tracked.number)

    def _evaluated(
        self,
        tracked: TrackedOptimizer,
        optimizer: Optimizer,
        closure: Callable[[], Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
        """Evaluate the closure, and return the arguments with its loss instead, and the loss."""
        if not self._is_compared(tracked):
            return args, kwargs, None
        if self.passes > tracked.passes and not _step_of(optimizer).__module__.startswith("torch.optim"):
            self.refuse(refusals.WITHIN_STEP)
        from torch import enable_grad

        with enable_grad():
            loss = closure()
        evaluated = _Evaluated(self, loss)
        if "closure" in kwargs:
            return args, {**kwargs, "closure": evaluated}, loss
        return (evaluated, *args[1:]), kwargs, loss

    # GradScaler

    def _unscales(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        imposed = self._scaled(args, kwargs)
        if imposed is not None:
            imposed.unscales(args[0])

    def _unscaled(self, args: tuple[Any, ...], error: BaseException | None) -> None:
        imposed = self._scaled(args, {})
        if imposed is not None and error is None:
            imposed.unscaled()

    def _scaled(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ImposedOptimizer | None:
        scaler, optimizer = args[0], args[1] if len(args) > 1 else kwargs.get("optimizer")
        return self.optimizers.imposed_on(optimizer) if scaler.is_enabled() and not self._is_off else None

    def _scaled_step(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def call(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:  # pragma: no cover - as above
            before = started(scaler, optimizer)
            self._scaling += 1
            try:
                result = step(scaler, optimizer, *args, **kwargs)
            finally:
                self._scaling -= 1
            ended(optimizer, before)
            return result

        def started(scaler: Any, optimizer: Any) -> int:
            imposed = self.optimizers.imposed_on(optimizer)
            if imposed is None or not scaler.is_enabled():
                return -1
            self.doubts.scaled()
            if getattr(optimizer, "_step_supports_amp_scaling", False):
                imposed.unscales_itself(scaler)
            return imposed.calls

        def ended(optimizer: Any, before: int) -> None:
            imposed = self.optimizers.imposed_on(optimizer)
            if imposed is not None and imposed.calls == before:
                imposed.skipped()

        untraced(started), untraced(ended)
        return call

    # DataLoaders

    def _fetches(self, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        self._epochs.fetches(args[0])

    def _fetched(self, args: tuple[Any, ...], error: BaseException | None) -> None:
        if isinstance(error, StopIteration):
            self._epochs.exhausted(args[0])

    def _restarted(self, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        self._epochs.restarted(args[0])

    # Ends

    def refuse(self, why: str) -> NoReturn:
        """End the script because no mode can be imposed on it."""
        self.refused = self.refused or why
        self._end(2)

    def _refuse(self, why: str) -> None:
        if why:
            self.refuse(why)

    def _end(self, status: int) -> NoReturn:
        self._ends += 1
        self._may_end = True
        if self._ends > MOST_ENDS and self._on_swallowed is not None:
            self._on_swallowed()
        raise Refused(status) if self.refused else SystemExit(status)

    def end(self) -> NoReturn:
        """End the script at a limit."""
        self.ended = True
        self._end(0)

    def _end_at_limits(self) -> None:
        if self.refused:
            self._end(2)
        if self.ended:
            self._end(0)
        passes, updates = self.limits or (None, None)
        if (updates is not None and self.updates >= updates) or (passes is not None and self.passes >= passes):
            self.end()


class _Evaluated:
    """A closure that was evaluated; a second evaluation refuses the script."""

    def __init__(self, imposing: Imposing, loss: Any) -> None:
        self._imposing, self._loss, self._calls = imposing, loss, 0

    def __call__(self) -> Any:
        self._calls += 1
        if self._calls > 1:
            self._imposing.refuse(refusals.SEVERAL_CALLS)
        return self._loss


def _step_of(optimizer: Optimizer) -> Callable[..., Any]:
    return type(optimizer).step


def _skips_itself(optimizer: Optimizer) -> bool:
    """Say whether a fused optimizer is about to skip its step, because gradients under a GradScaler are not finite."""
    found: Any = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)


def _turn_off(reference: weakref.ref[Imposing]) -> None:
    """Do nothing in a forked process, such as a worker of a DataLoader."""
    imposing = reference()
    if imposing is not None:
        imposing._is_off = True  # noqa: SLF001 - of this module


def _marking(scale: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:  # pragma: no cover - it runs under another file name
        result = scale(*args, **kwargs)
        marked(args[0], result)
        return result

    marked = untraced(mark_scale)
    return call


def _divided(args: tuple[Any, ...], kwargs: dict[str, Any], by: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a backward pass with its gradient divided."""
    given: Any = args[1] if len(args) > 1 else kwargs.get("grad_tensors")
    root: Any = args[0] if args else kwargs.get("tensors")
    roots = [root] if hasattr(root, "grad_fn") else list(root)
    if given is None or hasattr(given, "grad_fn"):
        given = [given] * len(roots)
    divided = [_over(by, root, gradient) for root, gradient in zip(roots, given, strict=False)]
    if len(args) > 1:
        return (args[0], divided, *args[2:]), kwargs
    return args, {**kwargs, "grad_tensors": divided}


def _over(by: int, root: Tensor, gradient: Tensor | None) -> Tensor | None:
    from torch import ones_like

    if gradient is not None:
        return gradient / by
    return ones_like(root) / by if root.numel() == 1 else None  # torch refuses the latter
