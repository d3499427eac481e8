"""A watched optimizer: the window of its next update, and the state of its gradients."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.audit.history.trace import Event
from gradlab.audit.places import user_location
from gradlab.audit.recording.measurement import UpdateMeasurement
from gradlab.audit.recording.parameters import ParameterChecks
from gradlab.audit.recording.samples import Probes, sample
from gradlab.audit.recording.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.optim import Optimizer

    from gradlab.audit.history.history import OptimizerHistory, Stretch
    from gradlab.audit.recording.names import Namer
    from gradlab.audit.recording.samples import Groups, Sample

    Grads = list[tuple[Tensor, Tensor | None, int]]  # parameter, its .grad, the version of that

WITH_LINES = 8  # first updates whose lines are stored
MOST_WITH_LINES = 64  # measured updates whose lines are stored


class PassStart(NamedTuple):
    """The gradients of one optimizer at the start of a backward pass."""

    watched: WatchedOptimizer
    groups: Groups
    grads: Grads | None  # None if no parameter had a gradient
    samples: list[Sample]  # if the update is measured


class FastPath(NamedTuple):
    """State that `fast_paths` needs of the only optimizer, if its next update is not measured."""

    watched: WatchedOptimizer
    probe: weakref.ref[Tensor]  # a parameter that shows whether there is a gradient
    stretch: Stretch  # the latest one


class WatchedOptimizer:
    """A watched optimizer; `forget` is called when it is deleted."""

    def __init__(
        self, optimizer: Optimizer, history: OptimizerHistory, namer: Namer, forget: Callable[[Any], None]
    ) -> None:
        self.optimizer = weakref.ref(optimizer, forget)
        self.history = history
        thread = threading.current_thread()
        # The thread of its last step, at first the one that created it; None for the main thread.
        self.thread = None if thread is threading.main_thread() else thread.ident
        self.window = Window(UpdateMeasurement(None), asks_for_lines=True)
        self.checks = ParameterChecks(history, namer)
        self.has_gradient = False  # when last checked
        self.step_depth = 0  # running calls of step, which may be nested
        self.step_without_gradient = False  # the running one
        self.accumulates = False  # the last update had several backward passes
        self.next_measured = 2  # number of the next measured update, after the current one
        self.reached_sets: set[frozenset[int]] | None = None  # by the passes of a window, if they differ: ids
        self._probes = Probes()
        self._found: list[Sample] | None = None  # samples at the running step

    @property
    def groups(self) -> Groups:
        """The optimizer's parameter groups, none once it is deleted."""
        optimizer = self.optimizer()
        return optimizer.param_groups if optimizer is not None else []

    @property
    def parameters(self) -> list[Tensor]:
        """The optimizer's parameters, none once it is deleted."""
        return [p for group in self.groups for p in group["params"]]

    @property
    def finds_nothing(self) -> bool:
        """Whether its last step found no gradient or only zeros, unlike earlier ones."""
        measured = self.history.measured
        found_nothing = self.step_without_gradient or bool(measured and measured[-1].empty)
        return found_nothing and self.checks.had_gradient

    @property
    def measures_next(self) -> bool:
        """Whether the update after the current one is measured."""
        return self.history.updates + 2 >= self.next_measured

    def fast_path(self) -> FastPath | None:
        """Return its fast path after a step, or None if everything must be recorded in full."""
        window, probe = self.window, self._probes.first(self.groups)
        if window.measurement or window.asks_for_lines or self.checks.silent or probe is None:
            return None
        return FastPath(self, weakref.ref(probe), self.history.stretches[-1])

    def cleared(self) -> None:
        """Record that a call has cleared its gradients."""
        self.has_gradient = False
        self.window.add(Event.CLEARED)

    # Backward passes

    def start_pass(self, groups: Groups) -> PassStart:
        """Check its gradients before a backward pass."""
        measurement = self.window.measurement
        if measurement and self.accumulates and (probe := self._probes.first(groups)) is not None:
            measurement.weights_are(sample(probe))
        probe = None if measurement or self.has_gradient else self._probes.first(groups)
        if probe is not None and probe.grad is None:
            return PassStart(self, groups, None, [])  # cleared by call, so all are None
        grads: Grads = []
        empty = True
        for group in groups:
            for p in group["params"]:
                grad = p.grad
                if grad is None:
                    grads.append((p, None, -1))
                else:
                    if not p.requires_grad:  # zeros of frozen ones don't count
                        self.checks.trusted = False  # but they may move it
                    else:
                        empty = False
                    grads.append((p, grad, grad._version))  # noqa: SLF001 - no public equivalent
        if self.has_gradient and empty:
            self._was_found_cleared()
        if not measurement:
            return PassStart(self, groups, grads, [])
        return PassStart(self, groups, grads, [None] * len(self._probes.keys) if empty else self._probes.read(groups))

    def end_pass(self, start: PassStart) -> None:
        """Record a backward pass if it reached any of its parameters."""
        grads = start.grads
        if not (_any_has_gradient(start.groups) if grads is None else _any_changed(grads)):
            return
        self.has_gradient = True
        self.window.add(Event.CLOSURE_BACKWARD if self.step_depth else Event.BACKWARD, repeated=True)
        if self.window.measurement and grads is not None:
            self.window.measurement.backward_ended(start.samples, self._probes.read(start.groups))

    # Steps

    def start_step(self, groups: Groups) -> None:
        """Check the gradients before a step."""
        self.step_depth, self.thread = 1, threading.get_ident()
        probe = self._probes.first(groups)
        has_gradient = (probe is not None and probe.grad is not None) or _any_has_gradient(groups)
        if not has_gradient and self.has_gradient:
            self._was_found_cleared()
        self.step_without_gradient = not has_gradient
        measured, measures_next = self.window.measurement is not None, self.measures_next
        if measured or measures_next:
            self._found = self._probes.read(groups)
        few_are_enough = self.checks.trusted and measures_next  # if every update is measured
        if self.checks.silent or (measured and not few_are_enough):
            self.checks.step_started(groups, measured=measured)

    def end_step(self, optimizer: Optimizer, fetched: int, *, within_pass: bool) -> Window:
        """Count the update, begin the next window, and return the one that ended.

        `fetched` is the number of batches from DataLoaders so far.
        """
        window, history, groups = self.window, self.history, optimizer.param_groups
        measurement, measures_next = window.measurement, self.measures_next
        of_closure = Event.CLOSURE_BACKWARD in window.letters
        if (measurement or measures_next) and (of_closure or hasattr(optimizer, "grad_scale")):
            self._found = self._probes.read(groups)  # a closure or a fused optimizer: unscaled in the step
        if self.step_without_gradient and not of_closure:
            window.add(Event.NO_GRADIENT)
        if window.asks_for_lines:
            history.add_place(Event.STEPPED, user_location())
        if within_pass:
            history.steps_within_pass = True
        if within_pass and measurement:
            measurement.forget_shares()
        lines = window.add_lines_to(history)
        letters = window.letters
        history.add_update(letters)
        self.accumulates = letters.count(Event.BACKWARD) > 1 or letters.count(Event.CLOSURE_BACKWARD) > 1
        history.add_losses(letters, window.losses)
        history.add_fetched(fetched - window.fetched_before)
        found, self._found = self._found, None
        if measurement:
            parameters = (p for group in groups for p in group["params"])
            history.add_measured(measurement.result(history.updates, found or [], parameters, self._probes, lines))
        few = len(history.measured) < MOST_WITH_LINES
        asks_for_lines = history.updates < WITH_LINES or (measures_next and few)
        self.window = Window(UpdateMeasurement(found) if measures_next else None, asks_for_lines, fetched)
        return window

    def close(self) -> None:
        """Store the events since the last update."""
        self.history.pending = self.window.letters
        self.window.add_lines_to(self.history)
        self.window.letters = ""
        if not self.step_depth:  # after a whole step
            self.checks.ended(self.groups)

    def _was_found_cleared(self) -> None:
        self.has_gradient = False
        self.window.add(Event.FOUND_CLEARED)


def _any_has_gradient(groups: Groups) -> bool:
    """Say whether any parameter has a gradient."""
    for group in groups:
        for p in group["params"]:
            if p.grad is not None:
                return True
    return False


def _any_changed(grads: Grads) -> bool:
    """Say whether any `.grad` has changed since."""
    for p, grad, version in grads:
        now = p.grad
        if now is not None and (now is not grad or now._version != version):  # noqa: SLF001 - no public equivalent
            return True
    return False
