"""A mode imposed on a running script, through torch: its losses are logged, and its optimizers keep what the mode says.

Without a mode the script runs as it is written, and only its losses are logged.
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import autograd
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.utils.data import dataloader

from gradlab.audit.hooks.patching import Patches
from gradlab.audit.hooks.untraced import untraced
from gradlab.comparison.epochs import Epochs
from gradlab.comparison.imposed import ImposedOptimizer, parameters_of
from gradlab.comparison.losses import mark_scale, value_of
from gradlab.rows import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gradlab.modes import Mode


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
    """

    def __init__(
        self,
        mode: Mode | None,
        log: Callable[[Row], None],
        *,
        only: int | None = None,
        limits: Limits = Limits(),
        on_first_pass: Callable[[Imposing], None] | None = None,
    ) -> None:
        self.mode, self.only, self.limits = mode, only, limits
        self.passes = self.updates = self.created = self.scheduled = 0
        self.refused, self.ended = "", False
        self.imposed: list[ImposedOptimizer] = []
        self._steps: dict[int, int] = {}  # taken steps by id of an optimizer's first parameter
        self._log, self._on_first_pass = log, on_first_pass
        self._optimizers: list[weakref.ref[Optimizer]] = []  # all, in the order of creation
        self._epochs = Epochs()
        self._depth = 0
        self._patches = Patches()
        self._classes: set[type] = set()

    def __enter__(self) -> Imposing:
        patches = self._patches
        patches.replace(autograd, "backward", self._backward)
        patches.around(Optimizer, "__init__", after=self._created)
        patches.replace(GradScaler, "scale", _marking)
        patches.around(GradScaler, "unscale_", self._unscaled)
        patches.replace(GradScaler, "step", self._scaled_step)
        patches.around(dataloader._BaseDataLoaderIter, "__next__", self._fetched)  # noqa: SLF001 - no public equivalent
        return self

    def __exit__(self, *_: object) -> None:
        self._patches.close()
        for each in self.imposed:
            each.unwatch()
        self._optimizers.clear()

    def weights(self) -> list[torch.Tensor]:
        """Return the parameters of all optimizers, in the order of creation."""
        alive = [optimizer for each in self._optimizers if (optimizer := each()) is not None]
        return [parameter for optimizer in alive for parameter in parameters_of(optimizer)]

    # Hooks

    def _backward(self, backward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:  # pragma: no cover - it runs under another file name
            if self._depth:
                return backward(*args, **kwargs)
            args, kwargs = started(args, kwargs)
            try:
                return backward(*args, **kwargs)
            finally:
                ended()

        started, ended = untraced(self._pass_started), untraced(self._pass_ended)
        return call

    def _pass_started(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self._end_at_limits()
        if not self.passes and self._on_first_pass:
            self._on_first_pass(self)
        self._log(Row(self.passes, self.updates, self._epochs.of_pass(), value_of(args, kwargs)))
        self.passes += 1
        self._depth = 1
        for each in self.imposed:
            each.before_pass()
        every = 1 if self.mode is None or not self.mode.mean else self.mode.every
        return _divided(args, kwargs, every) if every > 1 else (args, kwargs)

    def _pass_ended(self) -> None:
        self._depth = 0
        for each in self.imposed:
            each.after_pass()

    def _created(self, args: tuple[Any, ...], error: BaseException | None) -> None:
        optimizer = args[0]
        if error is not None:
            return
        self.created += 1
        self._optimizers.append(weakref.ref(optimizer))
        for kind in type(optimizer).__mro__:
            if "step" in vars(kind) and kind not in self._classes and kind is not Optimizer:
                self._classes.add(kind)
                self._patches.replace(kind, "step", self._step)
                break
        if self.mode is None or any(each.join(optimizer) for each in self.imposed):
            return
        if self.only in (None, self.created):
            self.imposed.append(ImposedOptimizer(optimizer, self.created, self.mode))

    def _step(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def call(optimizer: Optimizer, closure: Any = None, **kwargs: Any) -> Any:  # pragma: no cover - as above
            return stepped(step, optimizer, closure, kwargs)

        stepped = untraced(self._stepped)
        return call

    def _stepped(self, step: Callable[..., Any], optimizer: Optimizer, closure: Any, kwargs: Mapping[str, Any]) -> Any:
        self._refuse_what_cannot_be_imposed(optimizer, closure)
        imposed = self._imposed_on(optimizer)
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if imposed is not None and not imposed.before_step():
            self._end_at_limits(after_step=True)
            return loss if closure is not None else None
        if closure is None:
            result = step(optimizer, **kwargs)
        else:
            result = step(optimizer, _Evaluated(self, loss), **kwargs)
        if imposed is not None:
            imposed.after_step()
        first = id(parameters_of(optimizer)[0])
        taken = self._steps[first] = self._steps.get(first, 0) + 1
        self.updates = max(self.updates, taken)
        self._end_at_limits(after_step=True)
        return result

    def _unscaled(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        scaler, optimizer = args[0], args[1] if len(args) > 1 else kwargs.get("optimizer")
        imposed = self._imposed_on(optimizer)
        if imposed is not None and scaler.is_enabled():
            imposed.scaler = scaler

    def _scaled_step(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def call(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:  # pragma: no cover - as above
            before = started(optimizer)
            result = step(scaler, optimizer, *args, **kwargs)
            ended(optimizer, before)
            return result

        def started(optimizer: Any) -> int:
            imposed = self._imposed_on(optimizer)
            return 0 if imposed is None else imposed.calls

        def ended(optimizer: Any, before: int) -> None:
            imposed = self._imposed_on(optimizer)
            if imposed is not None and imposed.calls == before:
                imposed.skipped()

        untraced(started), untraced(ended)
        return call

    def _imposed_on(self, optimizer: Any) -> ImposedOptimizer | None:
        return next((each for each in self.imposed if each.serves(optimizer)), None)

    def _fetched(self, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        self._epochs.fetched(args[0])

    # Ends

    def refuse(self, why: str) -> None:
        """End the script because no mode can be imposed on it."""
        self.refused = why
        raise Refused(2)

    def _refuse_what_cannot_be_imposed(self, optimizer: Optimizer, closure: Any) -> None:
        if self.refused:
            raise Refused(2)
        kind = type(optimizer).__name__
        if self._depth:
            self.refuse(f"{kind} steps within the backward pass")
        if closure is not None and isinstance(optimizer, torch.optim.LBFGS):
            self.refuse(f"{kind} evaluates its closure several times per step")
        if not self.updates and (why := why_not()):
            self.refuse(why)

    def _end_at_limits(self, *, after_step: bool = False) -> None:
        if self.refused:
            raise Refused(2)
        passes, updates = self.limits
        if (passes is not None and self.passes >= passes and (after_step or self.passes > 0)) or (
            updates is not None and self.updates >= updates
        ):
            self.ended = True
            raise SystemExit(0)


class _Evaluated:
    """A closure that was evaluated; a second evaluation refuses the script."""

    def __init__(self, imposing: Imposing, loss: Any) -> None:
        self._imposing, self._loss, self._calls = imposing, loss, 0

    def __call__(self) -> Any:
        self._calls += 1
        if self._calls > 1:
            self._imposing.refuse("its optimizer evaluates the closure several times per step")
        return self._loss


def why_not() -> str:
    """Return why no mode can be imposed on this process; "" if nothing is against it."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        if distributed.get_world_size() > 1:
            return "it trains in several processes"
        if "torch.distributed.fsdp" in sys.modules and _has_instance("FullyShardedDataParallel"):
            return "it uses FSDP"
    if "deepspeed" in sys.modules:
        return "it uses DeepSpeed"
    frame = sys._getframe()  # noqa: SLF001 - inspect.currentframe() does the same, but slower
    while frame is not None:
        code = frame.f_code
        if code.co_filename.endswith("torch/_dynamo/eval_frame.py") and code.co_name in ("_fn", "compile_wrapper"):
            return "it compiles the whole step with torch.compile; compile only the model"
        frame = frame.f_back  # type: ignore[assignment]  # None at the end
    return ""


def _has_instance(name: str) -> bool:
    import gc

    return any(type(each).__name__ == name for each in gc.get_objects())


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
    roots = [root] if isinstance(root, torch.Tensor) else list(root)
    if given is None or isinstance(given, torch.Tensor):
        given = [given] * len(roots)
    divided = [
        torch.ones_like(root) / by if gradient is None else gradient / by
        for root, gradient in zip(roots, given, strict=False)
    ]
    if len(args) > 1:
        return (args[0], divided, *args[2:]), kwargs
    return args, {**kwargs, "grad_tensors": divided}

