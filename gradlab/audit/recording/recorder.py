"""The recorder: hooks call one of its methods when something happens, and it writes the history.

Nothing here may be noticed by the script: no gradient is changed, no random number drawn, no tensor kept (optimizers
are held by weak references; of a gradient a few numbers are kept), and failures of ours are noted and passed over.
"""

from __future__ import annotations

import functools
import signal
import weakref
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar, cast

from gradlab.audit.history.history import History
from gradlab.audit.history.trace import Event
from gradlab.audit.places import passes_under_way, steps_under_way
from gradlab.audit.recording.graphs import LossGraphs
from gradlab.audit.recording.loss import loss_of_pass
from gradlab.audit.recording.optimizers import WatchedOptimizers, next_measured
from gradlab.audit.recording.passes import add_passes_to_history, add_step
from gradlab.audit.recording.threads import TrainingThread, other_threads_alive
from gradlab.audit.recording.watched import PassStart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from gradlab.audit.history.loss import Loss
    from gradlab.audit.recording.watched import FastPath, WatchedOptimizer

Method = TypeVar("Method", bound="Callable[..., Any]")

MOST_LOSSES = 64  # of a window
MOST_FAULTS = 20
REFRESH = 100  # calls of a model's zero_grad() between two looks at which parameters it has


def _recorded(*, trains: bool) -> Callable[[Method], Method]:
    """Let a method be called by one thread at a time, and note its failures while the script continues."""

    def decorated(method: Method) -> Method:
        @functools.wraps(method)
        def call(self: Recorder, *args: Any) -> Any:
            if not self.thread.enter(trains):
                return None
            try:
                return method(self, *args)
            except Exception as error:  # whatever it is, it is not the script's
                self.failed(method.__name__, error)
                return None
            finally:
                self.thread.leave()

        return cast("Method", call)

    return decorated


class Recorder:
    """Writes the history of what happens.

    Args:
        sample: measure the way to one update in so many; None for the first few, and then ever fewer.
        on_measured: is called after every update that was measured; what it raises is meant for the script.

    Attributes:
        fast_path: see `fast_paths`; None where the full way is to be taken.
        fast_pass: the optimizer of the backward pass under way, if that began on the fast path.
    """

    def __init__(self, sample: int | None = None, on_measured: Callable[[], None] | None = None) -> None:
        self.history = History()
        self.on_measured = on_measured
        self.thread = TrainingThread(self._stop)
        self.batches = 0  # given by DataLoaders so far
        self.loss_is_scaled = False  # by a GradScaler: that of the next backward pass
        self.fast_path: FastPath | None = None
        self.fast_pass: WatchedOptimizer | None = None
        self._sample = sample
        self._optimizers = WatchedOptimizers(self.history)
        self._graphs = LossGraphs(self.history, self._optimizers)
        self._loss: Loss | None = None  # of the backward pass under way, where it is wanted
        self._starts: list[PassStart] = []  # of the backward pass under way
        self._known_modules: dict[int, tuple[weakref.ref[nn.Module], int, frozenset[int]]] = {}

    def failed(self, what: str, error: Exception) -> None:
        """Note a failure of ours, which the script must not notice; but raise what its handler of a signal raised."""
        if _is_of_signal_handler(error):
            raise error
        if len(self.history.faults) < MOST_FAULTS:
            self.history.faults.append(f"{what}: {type(error).__name__}: {error}")

    def _stop(self) -> None:
        """Record nothing more: several threads train at once.

        The gradients in `_starts` stay referenced: releasing one while another thread's pass replaces it can crash.
        """
        self.history.threads_at_once = True
        self.fast_path = self.fast_pass = None

    def _watched(self, optimizer: Optimizer) -> WatchedOptimizer | None:
        watched = self._optimizers.get(optimizer)
        if watched is None and (watched := self._optimizers.add(optimizer)):
            self.fast_path = None
        return watched

    @_recorded(trains=False)
    def optimizer_created(self, optimizer: Optimizer) -> None:
        """Record that an optimizer was made."""
        self._watched(optimizer)

    def updates_of(self, optimizer: Optimizer) -> int:
        """Return how many updates of an optimizer were recorded."""
        watched = self._optimizers.get(optimizer)
        return watched.history.updates if watched else 0

    # Backward passes

    @_recorded(trains=True)
    def backward_started(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Record that torch.autograd.backward is called, perhaps within another call: checkpointing does that."""
        thread = self.thread
        if thread.depth and thread.current == get_ident() and passes_under_way() < 2:  # one was interrupted at once
            thread.depth, self.fast_pass, self._starts, self._loss = 0, None, [], None
        thread.depth += 1
        try:
            self._look_at_loss(args, kwargs)
        except Exception as error:  # and the pass is recorded all the same
            self.failed("_look_at_loss", error)
        if thread.depth > 1:
            return
        # Gradients of another thread's optimizer are not read in this one: that can crash where they are cleared.
        several = len(self._optimizers) > 1
        elsewhere = other_threads_alive(each.thread for each in self._optimizers) if several else ()
        for each in self._optimizers:
            optimizer = each.optimizer()
            if optimizer is None or each.thread in elsewhere:
                continue
            if each.step_depth and not steps_under_way(optimizer):  # it has raised
                each.step_depth = 0
            self._starts.append(each.start_pass(optimizer.param_groups))

    def _look_at_loss(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Look at the loss and at the graph that is about to be used up, where that is to be measured."""
        nested, reads_loss = self.thread.depth > 1, False
        measured = any(each.window.measurement for each in self._optimizers)
        due = measured and self._graphs.are_due()
        for each in () if nested else self._optimizers:
            window = each.window
            wanted = bool(window.measurement) and (due or each.accumulates)
            wanted = wanted or (each.accumulates and not window.losses)
            window.letters_at_loss = len(window.letters) if wanted else -1
            reads_loss |= wanted
        if measured:
            self._graphs.look(args, kwargs, nested=nested, due=due)
        if reads_loss:
            self._loss = loss_of_pass(args, kwargs, scaled=self.loss_is_scaled)

    def backward_ended(self) -> None:
        """Record that a backward pass ends, or has raised."""
        self._end_backward()
        self.loss_is_scaled = False

    @_recorded(trains=True)
    def _end_backward(self) -> None:
        if not self.thread.depth:  # it began before anything was recorded
            return
        self.thread.depth -= 1
        if self.thread.depth > 0:
            return
        self.history.backwards += 1
        self._leave_fast_pass()
        starts, self._starts = self._starts, []
        while starts:  # which leaves no reference to a gradient once another thread may begin a pass
            start = starts.pop(0)
            start.watched.end_pass(start)
            del start
        loss, self._loss = self._loss, None
        for each in self._optimizers if loss is not None else ():
            window = each.window
            added = window.letters.endswith(Event.BACKWARD) and 0 <= window.letters_at_loss < len(window.letters)
            if added and loss is not None and len(window.losses) < MOST_LOSSES:
                window.losses.append(loss)

    def _leave_fast_pass(self) -> None:
        """Let the end of the pass under way be recorded as any other's is, if it began on the fast path."""
        if self.fast_pass is not None:
            self._starts.append(PassStart(self.fast_pass, self.fast_pass.groups, None, []))
            self.fast_pass = None

    # Steps

    @_recorded(trains=True)
    def step_started(self, optimizer: Optimizer) -> None:
        """Record that a step begins, perhaps within itself: of a class whose step calls that of its parent."""
        watched = self._watched(optimizer)
        if watched is None:
            return
        self._leave_fast_pass()  # where it is a step within a pass
        if watched.step_depth and steps_under_way(optimizer) > 1:  # and not one that has raised before it ended
            watched.step_depth += 1
            return
        if watched.window.measurement or watched.measures_next:
            self.fast_path = None
        watched.start_step(optimizer.param_groups)

    @_recorded(trains=True)
    def step_ended(self, optimizer: Optimizer) -> bool:
        """Record that the step of an optimizer ends, and return whether its update was measured."""
        watched = self._watched(optimizer)
        if watched is None or not watched.step_depth:
            return False
        watched.step_depth -= 1
        if watched.step_depth:
            return False
        window = watched.end_step(optimizer, self.batches, within_pass=self.thread.depth > 0)
        if watched.window.measurement:
            watched.next_measured = next_measured(watched.history.updates + 1, self._sample)
        others = [each for each in self._optimizers if each is not watched] if len(self._optimizers) > 1 else []
        for each in others:
            each.window.add(Event.OTHER_STEPPED)
            add_step(each.window.passes, watched, window.passes)
        if watched.checks.checking:
            add_passes_to_history(watched, window.passes)
        watched.checks.step_ended(optimizer.param_groups)
        self.fast_path = None if others else watched.fast_path()
        return window.measurement is not None

    # What happens in between

    @_recorded(trains=False)
    def happened(self, event: Event, optimizer: Optimizer) -> None:
        """Record an event of one optimizer."""
        watched = self._watched(optimizer)
        if watched is not None:
            watched.window.add(event)

    @_recorded(trains=True)
    def cleared(self, optimizer: Optimizer) -> None:
        """Record that its zero_grad() was called."""
        watched = self._watched(optimizer)
        if watched is not None:
            watched.cleared()

    @_recorded(trains=True)
    def model_cleared(self, module: nn.Module) -> None:
        """Record that the zero_grad() of a model was called."""
        cleared = self._parameters_of(module)
        for each in self._optimizers:
            own = [id(p) for p in each.parameters]
            if own and cleared.issuperset(own):
                each.cleared()
            elif not cleared.isdisjoint(own):
                each.window.add(Event.PARTLY_CLEARED)

    def _parameters_of(self, module: nn.Module) -> frozenset[int]:
        reference, uses, known = self._known_modules.get(id(module), (None, 0, frozenset()))
        if reference is None or reference() is not module or uses >= REFRESH:
            reference, uses, known = weakref.ref(module), 0, frozenset(id(p) for p in module.parameters())
        self._known_modules[id(module)] = reference, uses + 1, known
        return known

    @_recorded(trains=False)
    def clipped(self, parameters: Iterable[Tensor]) -> None:
        """Record that gradients of these were clipped."""
        clipped = {id(p) for p in parameters}
        for each in self._optimizers:
            if any(id(p) in clipped for p in each.parameters):
                each.window.add(Event.CLIPPED)

    def loss_scaled(self, *, enabled: bool) -> None:
        """Record that a GradScaler, if it is enabled, scales the loss of the next backward pass."""
        self.loss_is_scaled = enabled

    def batch_given(self) -> None:
        """Record that a DataLoader gives a batch."""
        self.batches += 1

    @_recorded(trains=False)
    def happened_to_all(self, event: Event) -> None:
        """Record an event of all optimizers."""
        for each in self._optimizers:
            each.window.add(event)

    def close(self) -> None:
        """Write down what has happened since the last update."""
        for each in self._optimizers:
            try:
                each.close()
            except Exception as error:  # and wait for no other thread
                self.failed("close", error)


def _is_of_signal_handler(error: Exception) -> bool:
    """Say whether an exception comes from a handler of a signal, which Python calls wherever it happens to be."""
    handlers = {getattr(signal.getsignal(each), "__code__", None) for each in signal.valid_signals()} - {None}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False
