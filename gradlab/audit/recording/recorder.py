"""The recorder: hooks call its methods, and it writes the history.

The script must not notice it. It changes no gradient, draws no random number and keeps no tensor: optimizers are held
by weak references, gradients as a few numbers. Its own failures are recorded and never raised.
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
from gradlab.audit.recording.clipping import add_clip
from gradlab.audit.recording.graphs import LossGraphs
from gradlab.audit.recording.loss import loss_of_pass
from gradlab.audit.recording.modes import EvalModes, ignored_flags
from gradlab.audit.recording.optimizers import WatchedOptimizers, next_measured
from gradlab.audit.recording.overlaps import Overlaps
from gradlab.audit.recording.passes import add_passes_to_history, add_step
from gradlab.audit.recording.samples import is_lost_number
from gradlab.audit.recording.scaling import add_scaling, mark_scaled
from gradlab.audit.recording.schedules import Schedules
from gradlab.audit.recording.threads import TrainingThread, other_threads_alive
from gradlab.audit.recording.usual_updates import CLOSED, fast_path_of
from gradlab.audit.recording.watched import PassStart
from gradlab.audit.recording.wrappers import are_related, note_wrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from torch import nn
    from torch.amp.grad_scaler import GradScaler
    from torch.optim import Optimizer

    from gradlab.audit.history.loss import Loss
    from gradlab.audit.recording.clipping import Clip
    from gradlab.audit.recording.usual_updates import FastPath
    from gradlab.audit.recording.watched import WatchedOptimizer

Method = TypeVar("Method", bound="Callable[..., Any]")

MOST_LOSSES = 64  # per window
MOST_FAULTS = 20
MOST_LOADERS = 64  # beyond, counting begins again
REFRESH = 100  # calls of a model's zero_grad() before its parameters are listed again


def _recorded(*, trains: bool) -> Callable[[Method], Method]:
    """Run a method in one thread at a time, and record its failures instead of raising them."""

    def decorated(method: Method) -> Method:
        @functools.wraps(method)
        def call(self: Recorder, *args: Any) -> Any:
            if not self.thread.enter():
                return None
            try:
                self._close_fast_path()
                return method(self, *args) if self.thread.may_record(trains) else None
            except Exception as error:  # never the script's fault
                self.failed(method.__name__, error)
                return None
            finally:
                self.thread.leave(self.fast_path)

        return cast("Method", call)

    return decorated


class Recorder:
    """Writes the history of a script.

    Args:
        sample: measure every `sample`-th update; None measures the first few, then fewer and fewer.
        on_measured: called after every measured update; it may raise into the script.
        chosen: ids of rules. For those that are off by default, it records only what the chosen ones need.

    Attributes:
        fast_path: see `fast_paths`; None if the recorder must record everything.
    """

    def __init__(
        self,
        sample: int | None = None,
        on_measured: Callable[[], None] | None = None,
        chosen: Collection[str] = (),
    ) -> None:
        self.history = History()
        self.on_measured = on_measured
        self.thread = TrainingThread(self._stop)
        self.batches = 0  # from DataLoaders so far
        self.by_loader: dict[int, int] = {}  # the same, by DataLoader
        self.loss_is_scaled = False  # of the next backward pass, by a GradScaler
        self.fast_path: FastPath | None = None
        self._sample = sample
        self._optimizers = WatchedOptimizers(self.history)
        self._graphs = LossGraphs(self.history, self._optimizers, reads_terms="term-without-graph" in chosen)
        self._overlaps = Overlaps(self.history, self._optimizers.namer)
        self._schedules = Schedules() if "scheduler-too-long" in chosen else None
        self._modes = EvalModes() if "trained-in-eval-mode" in chosen else None
        self._checks_restarts = "state-thrown-away" in chosen
        self._checks_flags = "requires-grad-of-module" in chosen
        self._loss: Loss | None = None  # of the running backward pass, if needed
        self._starts: list[PassStart] = []  # of the running backward pass
        self._known_modules: dict[int, tuple[weakref.ref[nn.Module], int, frozenset[int]]] = {}

    def failed(self, what: str, error: Exception) -> None:
        """Record a failure of the audit; raise exceptions from the script's signal handlers again."""
        if _is_of_signal_handler(error):
            raise error
        if len(self.history.faults) < MOST_FAULTS:
            self.history.faults.append(f"{what}: {type(error).__name__}: {error}")

    def _stop(self) -> None:
        """Stop recording, because several threads train at the same time.

        Keep the gradients in `_starts`: releasing one while another thread's pass replaces it can crash.
        """
        self.history.threads_at_once = True
        self.fast_path = None

    def _watched(self, optimizer: Optimizer) -> WatchedOptimizer | None:
        watched = self._optimizers.get(optimizer)
        if watched is None:
            watched, self.fast_path = self._optimizers.add(optimizer), None
        return watched

    @_recorded(trains=False)
    def optimizer_created(self, optimizer: Optimizer) -> None:
        """Record the creation of an optimizer."""
        self._watched(optimizer)

    def updates_of(self, optimizer: Optimizer) -> int:
        """Return the number of recorded updates of an optimizer."""
        watched = self._optimizers.get(optimizer)
        return watched.history.updates if watched else 0

    # Backward passes

    @_recorded(trains=True)
    def backward_started(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Record a call of torch.autograd.backward, which checkpointing nests in another one."""
        thread = self.thread
        if thread.depth and thread.current == get_ident() and passes_under_way() < 2:  # an earlier one was interrupted
            thread.depth, self._starts, self._loss = 0, [], None
        thread.depth += 1
        try:
            self._look_at_loss(args, kwargs)
        except Exception as error:  # the pass is recorded anyway
            self.failed("_look_at_loss", error)
        if thread.depth > 1:
            return
        # Don't read gradients of another thread's optimizer: this can crash while that thread clears them.
        several = len(self._optimizers) > 1
        elsewhere = other_threads_alive(each.thread for each in self._optimizers) if several else ()
        for each in self._optimizers:
            groups = each.groups
            if not groups or each.thread in elsewhere:
                continue
            if each.step_depth and not steps_under_way(each.optimizer()):  # the step has raised
                each.step_depth = 0
            self._starts.append(each.start_pass(groups))

    def _look_at_loss(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Inspect the loss and its graph before the backward pass, if the update is measured."""
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
        unmeasured = [] if nested else [each for each in self._optimizers if not each.window.measurement]
        if unmeasured and args and is_lost_number(args[0]):
            for each in unmeasured:
                each.checks.loss_is_lost(each.groups)
        if reads_loss:
            self._loss = loss_of_pass(args, kwargs, scaled=self.loss_is_scaled)

    def backward_ended(self) -> None:
        """Record the end of a backward pass, which may have raised."""
        self._end_backward()
        self.loss_is_scaled = False

    @_recorded(trains=True)
    def _end_backward(self) -> None:
        if not self.thread.depth:  # it began before the recording
            return
        self.thread.depth -= 1
        if self.thread.depth > 0:
            return
        self.history.backwards += 1
        starts, self._starts = self._starts, []
        while starts:  # drop all references before another thread may begin a pass
            start = starts.pop(0)
            start.watched.end_pass(start)
            del start
        loss, self._loss = self._loss, None
        for each in self._optimizers if loss is not None else ():
            window = each.window
            added = window.letters.endswith(Event.BACKWARD) and 0 <= window.letters_at_loss < len(window.letters)
            if added and loss is not None and len(window.losses) < MOST_LOSSES:
                window.losses.append(loss)

    def _close_fast_path(self) -> None:
        """Take the state, and a running backward pass, from the fast path, so that the recorder can change it."""
        fast = self.fast_path
        if fast is None or fast.busy == CLOSED:
            return
        thread, watched, running = self.thread, fast.watched, fast.running
        if running is not None:
            thread.depth, thread.current, fast.running = 1, fast.busy, None
        fast.close()
        if running is not None:
            self._starts.append(PassStart(watched, watched.groups, running.grads, []))
            self._loss = running.loss
            watched.window.letters_at_loss = -1 if running.loss is None else len(watched.window.letters)

    # Steps

    @_recorded(trains=True)
    def step_started(self, optimizer: Optimizer) -> None:
        """Record the start of a step, which may call the step of its parent class."""
        watched = self._watched(optimizer)
        if watched is None:
            return
        if watched.step_depth and steps_under_way(optimizer) > 1:  # not left over from a step that raised
            watched.step_depth += 1
            return
        if watched.window.measurement or watched.measures_next:
            self.fast_path = None
        if len(self._optimizers) > 1:
            note_wrapper(watched, self._optimizers)
            if watched.window.measurement:
                self._overlaps.look(watched, self._optimizers)
        watched.start_step(optimizer.param_groups)
        if self._checks_restarts and watched.history.created > 1:
            watched.restarts.step_started(optimizer)

    @_recorded(trains=True)
    def step_ended(self, optimizer: Optimizer) -> bool:
        """Record the end of a step, and return whether its update was measured."""
        watched = self._watched(optimizer)
        if watched is None or not watched.step_depth:
            return False
        watched.step_depth -= 1
        if watched.step_depth:
            return False
        window = watched.end_step(optimizer, self.batches, self.by_loader, within_pass=self.thread.depth > 0)
        if watched.window.measurement:
            watched.next_measured = next_measured(watched.history.updates + 1, self._sample)
        self._optimizers.stop_waiting()
        others = [each for each in self._optimizers if each is not watched] if len(self._optimizers) > 1 else []
        for each in others:
            if are_related(each, watched):
                continue
            each.window.add(Event.OTHER_STEPPED)
            add_step(each.window.passes, watched, window.passes)
        if watched.checks.checking:
            add_passes_to_history(watched, window.passes)
        add_scaling(watched.history, window)
        watched.checks.step_ended(optimizer.param_groups)
        if self._modes and window.measurement:
            self._modes.look(watched)
        again = self._checks_restarts and watched.history.created > 1
        if again:
            watched.restarts.step_ended(optimizer)
        self.fast_path = None if others or again else fast_path_of(watched, window.losses)
        return window.measurement is not None

    # Other events

    @_recorded(trains=False)
    def happened(self, event: Event, optimizer: Optimizer) -> None:
        """Record an event of one optimizer."""
        watched = self._watched(optimizer)
        if watched is not None:
            watched.add_event(event)

    @_recorded(trains=True)
    def cleared(self, optimizer: Optimizer) -> None:
        """Record a call of the optimizer's zero_grad()."""
        watched = self._watched(optimizer)
        if watched is not None:
            watched.cleared()

    @_recorded(trains=True)
    def model_cleared(self, module: nn.Module) -> None:
        """Record a call of a model's zero_grad()."""
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
    def clipped(self, clip: Clip) -> None:
        """Record a call that clips gradients."""
        add_clip(self.history, list(self._optimizers), clip)

    def loss_scaled(self, result: Any, *, enabled: bool) -> None:
        """Record that a GradScaler scales the loss of the next backward pass, if `enabled`."""
        self.loss_is_scaled = enabled
        if enabled:
            mark_scaled(result)

    @_recorded(trains=False)
    def unscaled(self, optimizer: Optimizer, scaler: GradScaler) -> None:
        """Record that a GradScaler divides all gradients of an optimizer."""
        watched = self._watched(optimizer)
        if watched is not None:
            watched.add_event(Event.UNSCALED)
            for each in (watched, watched.inner):
                if each and each.window.measurement:
                    each.window.scale = float(scaler.get_scale())

    @_recorded(trains=False)
    def scheduled(self, scheduler: Any, optimizer: Optimizer) -> None:
        """Record the start of a scheduler's step for its optimizer."""
        watched = self._watched(optimizer)
        if watched is not None:
            watched.add_event(Event.SCHEDULED)
            if self._schedules:
                self._schedules.stepped(scheduler, watched.history)

    @_recorded(trains=False)
    def module_in_eval(self, module: nn.Module) -> None:
        """Record a call of a model's eval()."""
        if self._modes:
            self._modes.entered(module)

    def batch_given(self, loader: int) -> None:
        """Record a batch from a DataLoader, given by a number."""
        self.batches += 1
        if len(self.by_loader) >= MOST_LOADERS and loader not in self.by_loader:
            self.by_loader = {}
        self.by_loader[loader] = self.by_loader.get(loader, 0) + 1

    @_recorded(trains=False)
    def happened_to_all(self, event: Event) -> None:
        """Record an event of all optimizers."""
        for each in self._optimizers:
            each.window.add(event)

    def close(self) -> None:
        """Store the events since the last update, and check the weights and graphs."""
        self._close_fast_path()
        for each in (*self._optimizers, self._graphs):
            try:
                each.close()
            except Exception as error:  # without waiting for other threads
                self.failed("close", error)
        try:
            if self._checks_flags and self.history.updates:
                owned = {id(p) for each in self._optimizers for p in each.parameters}
                self.history.ignored_flags = ignored_flags(owned)
        except Exception as error:
            self.failed("close", error)


def _is_of_signal_handler(error: Exception) -> bool:
    """Say whether an exception comes from a signal handler, which Python may call during any of our lines."""
    handlers = {getattr(signal.getsignal(each), "__code__", None) for each in signal.valid_signals()} - {None}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False
