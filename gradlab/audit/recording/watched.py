"""A watched optimizer: the window of its next update, and the state of its gradients."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.audit.history.history import MOST_WASTED, WastedPasses
from gradlab.audit.history.keep import ALIKE
from gradlab.audit.history.trace import Event, dropped_in
from gradlab.audit.places import user_location
from gradlab.audit.recording.measurement import UpdateMeasurement
from gradlab.audit.recording.parameters import ParameterChecks
from gradlab.audit.recording.restarts import RestartChecks
from gradlab.audit.recording.samples import Probes, sample
from gradlab.audit.recording.uncleared import UnclearedParameters
from gradlab.audit.recording.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.optim import Optimizer

    from gradlab.audit.history.history import OptimizerHistory
    from gradlab.audit.history.trace import Dropped
    from gradlab.audit.recording.names import Namer
    from gradlab.audit.recording.samples import Groups, Sample

    Grads = list[tuple[Tensor, Tensor | None, int]]  # parameter, its .grad, the version of that

WITH_LINES = 8  # first updates whose lines are stored
WASTE_LOOKS = 16  # windows with wasted passes after which the search for their reason ends
MOST_WITH_LINES = 64  # measured updates whose lines are stored


class PassStart(NamedTuple):
    """The gradients of one optimizer at the start of a backward pass."""

    watched: WatchedOptimizer
    groups: Groups
    grads: Grads | None  # None if no parameter had a gradient
    samples: list[Sample]  # if the update is measured


class WatchedOptimizer:
    """A watched optimizer, or several that hold the same parameters, one after the other."""

    optimizer: weakref.ref[Optimizer]

    def __init__(self, history: OptimizerHistory, namer: Namer) -> None:
        self.history = history
        thread = threading.current_thread()
        # The thread of its last step, at first the one that created it; None for the main thread.
        self.thread = None if thread is threading.main_thread() else thread.ident
        self.window = Window(UpdateMeasurement(None), asks_for_lines=True)
        self.checks = ParameterChecks(history, namer)
        self.uncleared = UnclearedParameters(history, namer)
        self.restarts = RestartChecks(history)
        self.has_gradient = False  # when last checked
        self.step_depth = 0  # running calls of step, which may be nested
        self.step_without_gradient = False  # the running one
        self.accumulates = False  # the last update had several backward passes
        self.certain = 0  # see FastPath
        self.looks_for_waste = False  # some passes were wasted, and it is unknown whether they were meant to train
        self.next_measured = 2  # number of the next measured update, after the current one
        self.reached_sets: set[frozenset[int]] | None = None  # by the passes of a window, if they differ: ids
        self.outer: WatchedOptimizer | None = None  # around it, such as Lookahead
        self.inner: WatchedOptimizer | None = None  # the one that it is around, with the same parameters
        self._probes = Probes()
        self._found: list[Sample] | None = None  # samples at the running step
        self._held: list[list[weakref.ref[Tensor]]] = []  # parameters by group, once the optimizer is deleted

    def watch(
        self, optimizer: Optimizer, forget: Callable[[Any], None], parameters: list[list[weakref.ref[Tensor]]]
    ) -> None:
        """Watch this optimizer; call `forget` when it is deleted."""
        self.optimizer = weakref.ref(optimizer, forget)
        self._held = parameters

    def continue_with(self, optimizer: Optimizer, forget: Callable[[Any], None]) -> None:
        """Watch the successor of a deleted optimizer."""
        self.history.created += 1
        self.optimizer = weakref.ref(optimizer, forget)

    @property
    def groups(self) -> Groups:
        """The optimizer's parameter groups; those of its creation once it is deleted."""
        optimizer = self.optimizer()
        if optimizer is not None:
            return optimizer.param_groups
        held = [[reference() for reference in group] for group in self._held]
        return [{"params": group} for group in held] if all(p is not None for group in held for p in group) else []

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

    def finds_gradient(self) -> bool:
        """Say whether any of its parameters has a gradient."""
        return _any_has_gradient(self.groups)

    @property
    def probe(self) -> Tensor | None:
        """A parameter that shows whether there is a gradient, or None if unknown."""
        return self._probes.first(self.groups)

    def add_event(self, event: Event) -> None:
        """Record an event, also for the optimizer that it is around."""
        self.window.add(event)
        if self.inner is not None:
            self.inner.window.add(event)

    def cleared(self) -> None:
        """Record that a call has cleared its gradients."""
        self.has_gradient = False
        self.window.add(Event.CLEARED)
        if self.inner is not None:
            self.inner.cleared()

    # Backward passes

    def start_pass(self, groups: Groups) -> PassStart:
        """Check its gradients before a backward pass."""
        measurement = self.window.measurement
        self._check_weights(groups)
        probe = None if measurement or self.has_gradient else self._probes.first(groups)
        if probe is not None and probe.grad is None:
            return PassStart(self, groups, None, [])  # cleared by call, so all are None
        grads, empty = gradients_in(groups), True
        for p, grad, _ in grads:
            if grad is not None and p.requires_grad:
                empty = False
            elif grad is not None:  # zeros of frozen ones don't count
                self.checks.trusted = False  # but they may move it
        if self.has_gradient and empty:
            self._was_found_cleared()
        if not measurement:
            return PassStart(self, groups, grads, [])
        if self.uncleared.wanted or not empty:
            self.uncleared.pass_started(grads, first=Event.BACKWARD not in self.window.letters)
        return PassStart(self, groups, grads, [None] * len(self._probes.keys) if empty else self._probes.read(groups))

    def _check_weights(self, groups: Groups) -> None:
        """Check whether weights moved since the last pass of the window, if that matters."""
        measurement = self.window.measurement
        if not (self.looks_for_waste or (measurement and self.accumulates)):
            return
        if (probe := self._probes.first(groups)) is not None:
            weights = sample(probe)
            if measurement and self.accumulates:
                last = groups[-1]["params"]
                measurement.weights_are(weights, sample(last[-1]) if last else None)
            if self.looks_for_waste:
                self.window.weights_are(weights)

    def end_pass(self, start: PassStart) -> None:
        """Record a backward pass if it reached any of its parameters."""
        grads = start.grads
        if not (_any_has_gradient(start.groups) if grads is None else _any_changed(grads)):
            return
        self.has_gradient = True
        self.window.add(Event.CLOSURE_BACKWARD if self.step_depth else Event.BACKWARD, repeated=True)
        if self.window.measurement and grads is not None:
            self.window.measurement.backward_ended(start.samples, self._probes.read(start.groups))
            self.uncleared.pass_ended(self.parameters)

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

    def end_step(self, optimizer: Optimizer, fetched: int, by_loader: dict[int, int], *, within_pass: bool) -> Window:
        """Count the update, begin the next window, and return the one that ended.

        `fetched` is the number of batches from DataLoaders so far, also given by DataLoader.
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
        if self.accumulates and (dropped := dropped_in(letters)) and dropped.used > 1:
            self._add_wasted(dropped, lines)
        history.add_losses(letters, window.losses)
        history.add_fetched(window.fetched_of_one(fetched, by_loader))
        found, self._found = self._found, None
        if measurement:
            parameters = (p for group in groups for p in group["params"])
            measured = measurement.result(history.updates, found or [], parameters, self._probes, lines)
            history.add_measured(measured._replace(scale=window.scale) if window.scale else measured)
            if measured.kept and max(measured.kept) - min(measured.kept) > ALIKE:
                self.uncleared.wanted = True
        if self.uncleared.wanted and (measurement or measures_next):
            self.uncleared.step_ended(self.parameters, measures_next=measures_next)
        few = len(history.measured) < MOST_WITH_LINES
        asks_for_lines = history.updates < WITH_LINES or (measures_next and few) or self.looks_for_waste
        probe = self._probes.first(groups) if measures_next and self.accumulates else None
        weights = None if probe is None else sample(probe)
        measurement = UpdateMeasurement(found, weights) if measures_next else None
        self.window = Window(measurement, asks_for_lines, fetched, by_loader.copy())
        return window

    def _add_wasted(self, dropped: Dropped, lines: int) -> None:
        """Record wasted passes, and look more closely at the next windows unless it is known whether they train."""
        window, wasted = self.window, self.history.wasted
        measured = window.measurement
        meant: bool | None = None
        usual = {loss for _, loss in self.history.losses}
        another = bool(usual) and not usual.issuperset(window.losses[:1])
        if (
            another
            or window.moved
            or (measured and measured.moved)
            or lines > 1
            or any(p.asked for p in window.passes)
        ):
            meant = False
        elif lines and (measured or window.weights is not None):
            meant = True
        if len(wasted) < MOST_WASTED:
            wasted.append(WastedPasses(self.history.updates, *dropped, meant))
        self.looks_for_waste = len(wasted) < WASTE_LOOKS

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


def gradients_in(groups: Groups) -> Grads:
    """Return the parameters of an optimizer with their `.grad` and the version of that, -1 without one."""
    return [
        (p, grad := p.grad, -1 if grad is None else grad._version)  # noqa: SLF001 - no public equivalent
        for group in groups
        for p in group["params"]
    ]


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
