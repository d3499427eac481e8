"""Hearing what a script does, and keeping what findings need of it.

Nothing here may be felt by the script: no gradient is changed, no random number drawn, no tensor kept (optimizers are
held by weak references; what is kept of a gradient are a few numbers), and what goes wrong here is noted and passed
over.
"""

from __future__ import annotations

import functools
import math
import sys
import weakref
from statistics import median
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from gradlab.audit.history import BACKWARDS, History, Measured, OptimizerHistory, own_part
from gradlab.audit.keep import inner, sample, share
from gradlab.audit.places import here
from gradlab.audit.reach import Reach, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from gradlab.audit.history import Place
    from gradlab.audit.keep import Sample
    from gradlab.audit.loss import Loss

    Groups = list[dict[str, Any]]
    Seen = list[tuple[Tensor, Tensor | None, int]]  # parameters, what their .grad held and which version of it

P = ParamSpec("P")

FIRST = 8  # updates that are all measured
EVERY = 23  # of the later ones, one in so many: a number that no usual window or epoch is a multiple of
PLACED = 64  # updates measured of which the lines are asked for
PROBES = 3  # parameters of an optimizer whose gradients are looked at
LONGEST = 2000  # letters of a trace
MOST_OPTIMIZERS = 64
MOST_LOSSES = 64  # of a window
MOST_FAULTS = 20
REFRESH = 100  # calls of a model's zero_grad() between two looks at which parameters it has


def unfelt(method: Callable[Concatenate[Recorder, P], None]) -> Callable[Concatenate[Recorder, P], None]:
    """Note what goes wrong in the method, and let the script go on."""

    @functools.wraps(method)
    def call(self: Recorder, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # whatever it is, it is not the script's
            self._failed(method.__name__, error)

    return call


class Watched:
    """What is under way in one optimizer: the window that leads to its next update."""

    def __init__(self, optimizer: Optimizer, history: OptimizerHistory, forget: Callable[[Any], None]) -> None:
        self.optimizer = weakref.ref(optimizer, forget)
        self.history = history
        self.letters = ""
        self.attentive = True  # whether to ask for lines of the user's code, in the window under way
        self.lines: list[Place | None] = []  # then one for each letter
        self.held = False  # whether there was a gradient when last it was looked at
        self.in_step = False
        self.nested = 0  # calls of step within step
        self.none_found = False  # by the step under way
        self.probes: list[tuple[int, int]] = []
        self.measuring = True  # the window under way
        self.measure_next = False
        self.window = Window()  # what its parameters are found to do
        self.resting = False  # nothing but letters is noted, in the window under way
        self.several = False  # whether the last update took several backward passes
        self.losses: list[Loss] = []  # of the backward passes of the window, those that were read
        self.fetched = 0  # batches given by DataLoaders up to the last update
        self.heard = 0  # letters of the trace when the last loss was read
        self._looked: list[tuple[weakref.ref[Tensor] | None, int, Sample]] = []  # what the probes held last
        self._begin(None)

    def _begin(self, last: list[Sample] | None) -> None:
        self._last = last  # of the last update's gradient
        self._after: list[Sample] | None = None  # what the latest backward pass left
        self._kept: list[float | None] = []
        self._joins: list[float] = []
        self._weights: Sample = None
        self._moved = False
        self.found: list[Sample] | None = None  # by the step

    def parameters(self) -> list[Tensor]:
        """Return the optimizer's parameters, none once it is gone."""
        optimizer = self.optimizer()
        return [p for group in optimizer.param_groups for p in group["params"]] if optimizer is not None else []

    def happened(self, letter: str, *, again: bool = False) -> None:
        """Add a letter to the trace; not the same twice in a row, unless `again`."""
        if (again or not self.letters.endswith(letter)) and len(self.letters) < LONGEST:
            self.letters += letter
            if self.attentive:
                self.lines.append(here())

    def look(self, groups: Groups) -> Seen | None:
        """Return the parameters and what their `.grad` holds, or None where none holds any; note what was cleared."""
        if not self.measuring and not self.held and not _first_grad(groups):
            return None  # cleared by call, and seen to be: all of it is None, and a look at each costs time
        seen = []
        for group in groups:
            for p in group["params"]:
                grad = p.grad
                seen.append((p, grad, -1 if grad is None else grad._version))  # noqa: SLF001 - nothing public tells
        if self.held and all(grad is None for _, grad, _ in seen):
            self.held = False
            self.happened("n")
        return seen

    def finds_none(self, groups: Groups) -> bool:
        """Say whether a step finds no gradient at all; note when it was cleared."""
        none = not _any_grad(groups)
        if none and self.held:
            self.held = False
            self.happened("n")
        return none

    def samples(self, groups: Groups) -> list[Sample]:
        """Return a few elements of the gradients of a few parameters."""
        if not self.probes:
            params = [group["params"] for group in groups]
            there = [(n, m) for n, each in enumerate(params) for m, p in enumerate(each) if p.grad is not None]
            stride = max(1, math.ceil(len(there) / PROBES))
            self.probes = there[::stride]
        before, self._looked = self._looked, []
        for nth, (group, which) in enumerate(self.probes):
            grad = groups[group]["params"][which].grad
            version = -1 if grad is None else grad._version  # noqa: SLF001 - nothing public tells
            then, of_then, what = before[nth] if nth < len(before) else (None, -2, None)
            if of_then != version or (grad is not None and (then is None or then() is not grad)):
                then, what = (None, None) if grad is None else (weakref.ref(grad), sample(grad))
            self._looked.append((then, version, what))
        return [what for _, _, what in self._looked]

    def weights_moved(self, groups: Groups) -> None:
        """Note whether the weights have changed since the last backward pass of this window."""
        if not self.probes or not self.several:
            return
        group, nth = self.probes[0]
        now = sample(groups[group]["params"][nth])
        self._moved |= self._after is not None and self._weights is not None and now != self._weights
        self._weights = now

    def joined(self, before: list[Sample], after: list[Sample]) -> None:
        """Measure what a backward pass found in `.grad`, and take what it left."""
        if self._after is None:
            self._kept = [share(b, g) for b, g in zip(before, self._last or (), strict=False)]
        else:
            shares = [share(b, a) for b, a in zip(before, self._after, strict=False)]
            self._kept = [
                kept if part is None or kept is None else kept * part
                for kept, part in zip(self._kept, shares, strict=False)
            ]
            known = [part for part in shares if part is not None]
            self._joins += [median(known)] if known else []
        self._after = after

    def finish(self, fetched: int) -> None:
        """Close the window with an update, and begin the next one; `fetched` is how many batches were given so far."""
        lines = self.note_lines() if self.lines else 0
        self.several = self.letters.count("B") > 1 or self.letters.count("L") > 1
        self.history.add_update(self.letters)
        self.history.add_losses(self.letters, self.losses)
        self.history.add_fetched(fetched - self.fetched)
        self.fetched = fetched
        self.losses, self.heard, self.letters = [], 0, ""
        if self.resting:
            return
        if self.measuring:
            self.history.add_measured(self._measured(self.found or [], lines))
        self._begin(self.found)
        self.measuring = self.measure_next
        few = len(self.history.measured) < PLACED
        self.attentive = self.history.updates < FIRST or (self.measuring and few)
        self.resting = not (self.measuring or self.attentive)

    def note_lines(self) -> int:
        """Write down the lines that led to the update, and return how many of them are backward passes."""
        if not self.lines:
            return 0
        letters = own_part(self.letters)
        own = list(zip(letters, self.lines[len(self.lines) - len(letters) :], strict=True))
        for letter, place in own:
            self.history.seen_at(letter, place)
        self.lines = []
        return len({place for letter, place in own if letter in BACKWARDS and place})

    def _measured(self, found: list[Sample], lines: int) -> Measured:
        after = self._after or []
        ss = sum(inner(each, each) for each in found)
        aa, sa = ss, ss
        if after != found:
            aa = sum(inner(each, each) for each in after)
            sa = sum(inner(s, a) for s, a in zip(found, after, strict=False))
        known = 0 < aa < math.inf and ss < math.inf
        return Measured(
            self.history.updates,
            tuple(kept for kept in self._kept if kept is not None),
            tuple(self._joins),
            sa / aa if known else None,
            sa / math.sqrt(aa * ss) if known and ss else None,
            not ss and not any(each and any(each) for each in found),
            math.isfinite(ss),
            self._moved,
            lines,
        )


class Recorder:
    """Hears what happens and writes the history.

    Args:
        every: measure the way to one update in so many; None for the first few and then one in 23.
        measured: is called after each update that was measured.
    """

    def __init__(self, every: int | None = None, measured: Callable[[], None] | None = None) -> None:
        self.history = History()
        self._every = every
        self._measured = measured
        self._watched: dict[int, Watched] = {}
        self.fetched = 0  # batches given by DataLoaders so far
        self._reach = Reach(self.history, self._watched)
        self._depth = 0
        self._calm: Watched | None = None  # the only one there is, resting, cleared by call and seen to be
        self._before: list[tuple[Watched, Groups, Seen | None, list[Sample]]] = []
        self._of_module: dict[int, tuple[weakref.ref[nn.Module], int, frozenset[int]]] = {}

    def _failed(self, what: str, error: Exception) -> None:
        if len(self.history.faults) < MOST_FAULTS:
            self.history.faults.append(f"{what}: {type(error).__name__}: {error}")

    def due(self, update: int) -> bool:
        """Say whether the way to this update is to be measured."""
        if self._every is None:
            return update <= FIRST or update % EVERY == 0
        return update % self._every == 0 or update <= 2

    def _of(self, optimizer: Optimizer) -> Watched | None:
        watched = self._watched.get(id(optimizer))
        if watched is None and len(self.history.optimizers) < MOST_OPTIMIZERS:
            watched = self._meet(optimizer)
        return watched

    def _meet(self, optimizer: Optimizer) -> Watched:
        settings = {
            name: float(value)
            for name, value in optimizer.defaults.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        count = sum(len(group["params"]) for group in optimizer.param_groups)
        history = OptimizerHistory(type(optimizer).__name__, count, settings)
        self.history.optimizers.append(history)
        self._calm = None
        key, mine = id(optimizer), weakref.ref(self)

        def forget(_: object) -> None:
            if (recorder := mine()) is not None:
                recorder._watched.pop(key, None)  # noqa: SLF001 - it is our own

        self._watched[key] = Watched(optimizer, history, forget)
        return self._watched[key]

    @unfelt
    def created(self, optimizer: Optimizer) -> None:
        """Hear that an optimizer was made."""
        self._of(optimizer)

    # Backward passes

    def backward_begins(self) -> None:
        """Hear that a backward pass begins, perhaps within another: checkpointing does that."""
        try:
            self._depth += 1
            if self._depth > 1 or (self._calm is not None and self._is_calm(self._calm)):
                return
            for each in list(self._watched.values()):
                optimizer = each.optimizer()
                if optimizer is None:
                    continue
                groups = optimizer.param_groups
                if each.in_step and not _steps_under_way(optimizer):  # it has raised
                    each.in_step = False
                if each.measuring:
                    each.weights_moved(groups)
                self._before.append((each, groups, each.look(groups), each.samples(groups) if each.measuring else []))
        except Exception as error:  # as `unfelt` does, less a call
            self._failed("backward_begins", error)

    def backward_ends(self) -> None:
        """Hear that a backward pass ends, or has raised."""
        try:
            self._depth -= 1
            if self._depth > 0:
                return
            if self._calm is not None:
                self._reached_calm(self._calm)
                return
            before, self._before = self._before, []
            self.history.backwards += 1
            for each, groups, seen, samples in before:
                if not (_any_grad(groups) if seen is None else _any_changed(seen)):
                    continue
                each.held = True
                each.happened("L" if each.in_step else "B", again=True)
                if each.measuring and seen is not None:
                    if len(each.history.reached) < len(seen):
                        each.history.reached.update(nth for nth, one in enumerate(seen) if _any_changed([one]))
                    each.joined(samples, each.samples(groups))
        except Exception as error:  # as `unfelt` does, less a call
            self._failed("backward_ends", error)

    def _is_calm(self, watched: Watched) -> bool:
        """Say whether there is no gradient yet, since it was cleared: some may have been put there by hand."""
        optimizer = watched.optimizer()
        if optimizer is not None and _first_grad(optimizer.param_groups):
            self._calm = None
        return self._calm is not None

    def _reached_calm(self, watched: Watched) -> None:
        """Hear that a backward pass ends before which there was no gradient: as above, at a third of the cost."""
        self.history.backwards += 1
        optimizer = watched.optimizer()
        if optimizer is not None and _any_grad(optimizer.param_groups):
            self._calm = None
            watched.held = True
            watched.happened("B", again=True)

    def wants_loss(self) -> bool:
        """Say whether the loss of the backward pass that begins is to be read, and note how far each trace is."""
        wanted = False
        try:
            for each in list(self._watched.values()):
                each.heard = -1
                if each.measuring or (each.several and not each.losses):
                    each.heard, wanted = len(each.letters), True
        except Exception as error:  # as `unfelt` does, less a call
            self._failed("wants_loss", error)
        return wanted

    @unfelt
    def loss_was(self, loss: Loss) -> None:
        """Hear how the loss was scaled of the backward pass that has ended."""
        for each in self._watched.values():
            if 0 <= each.heard < len(each.letters) and each.letters.endswith("B") and len(each.losses) < MOST_LOSSES:
                each.losses.append(loss)

    # Steps

    def step_begins(self, optimizer: Optimizer) -> None:
        """Hear that a step begins, perhaps within itself: of a class whose step calls that of its parent."""
        try:
            watched = self._watched.get(id(optimizer)) or self._of(optimizer)
            if watched is None:
                return
            groups = optimizer.param_groups
            if (
                self._calm is not None and self._depth
            ):  # a step within a backward pass, of which the end is to be heard
                self._before.append((watched, groups, None, []))
            self._calm = None
            if watched.in_step and _steps_under_way(optimizer) > 1:  # and not one that has raised before it ended
                watched.nested += 1
                return
            watched.in_step, watched.nested = True, 0
            watched.none_found = not _first_grad(groups) and watched.finds_none(groups)
            watched.measure_next = self.due(watched.history.updates + 2)
            watched.resting = watched.resting and not watched.measure_next
            if watched.measuring or watched.measure_next:
                watched.found = watched.samples(groups)
        except Exception as error:  # as `unfelt` does, less a call
            self._failed("step_begins", error)

    def step_ends(self, optimizer: Optimizer) -> None:
        """Hear that the step of an optimizer ends."""
        try:
            watched = self._watched.get(id(optimizer)) or self._of(optimizer)
            if watched is None or not watched.in_step:
                return
            if watched.nested:
                watched.nested -= 1
                return
            watched.in_step = False
            if watched.resting and not watched.none_found and len(self._watched) == 1:
                watched.finish(self.fetched)  # which is all that is to be done
            else:
                self._ended(watched, optimizer)
        except Exception as error:  # as `unfelt` does, less a call
            self._failed("step_ends", error)

    def _ended(self, watched: Watched, optimizer: Optimizer) -> None:
        measured = watched.measuring
        if (measured or watched.measure_next) and ("L" in watched.letters or hasattr(optimizer, "grad_scale")):
            watched.found = watched.samples(optimizer.param_groups)  # a closure, or fused: unscaled within the step
        if watched.none_found and "L" not in watched.letters:
            watched.happened("0")
        if watched.attentive:
            watched.history.seen_at("S", here())
        watched.finish(self.fetched)
        for each in self._watched.values():
            if each is not watched:
                each.happened("o")
        if measured and self._measured:
            self._measured()

    # What backward passes reach, and what steps take

    def is_measuring(self) -> bool:
        """Say whether the way to an update of any optimizer is being measured."""
        for each in list(self._watched.values()):  # noqa: SIM110 - any() of a generator takes twice as long
            if each.measuring:
                return True
        return False

    @unfelt
    def reaches(self, roots: list[Any]) -> None:
        """Hear what is about to be backwarded, where it is measured."""
        self._reach.backward_begins(roots, nested=self._depth > 0)

    def takes(self, optimizer: Optimizer) -> None:
        """Hear that a step begins, once `step_begins` has."""
        try:
            watched = self._watched.get(id(optimizer))
            if watched is not None and (watched.measuring or watched.window.silent):
                self._reach.step_begins(watched, optimizer.param_groups)
        except Exception as error:  # as `unfelt` does, less a call
            self._failed("takes", error)

    def has_taken(self, optimizer: Optimizer) -> None:
        """Hear that a step has ended, once `step_ends` has, and counted it."""
        try:
            watched = self._watched.get(id(optimizer))
            if watched is not None and not watched.in_step and (self.is_measuring() or watched.window.needs_end):
                self._reach.step_ends(watched, optimizer.param_groups)
        except Exception as error:  # as `unfelt` does, less a call
            self._failed("has_taken", error)

    # What happens in between

    @unfelt
    def happened(self, letter: str, optimizer: Optimizer) -> None:
        """Hear that something happened to one optimizer: a letter of the trace."""
        watched = self._watched.get(id(optimizer)) or self._of(optimizer)
        if watched is not None:
            watched.happened(letter)

    def cleared(self, optimizer: Optimizer) -> None:
        """Hear that its zero_grad() was called."""
        try:
            watched = self._watched.get(id(optimizer)) or self._of(optimizer)
            if watched is not None:
                watched.held = False
                if not watched.letters.endswith("z"):  # less a call where it is cleared twice
                    watched.happened("z")
                if not self._depth:  # within a pass, its end is to be heard as its beginning was
                    calm = watched.resting and len(self._watched) == 1 and not watched.in_step
                    self._calm = watched if calm and not _first_grad(optimizer.param_groups) else None
        except Exception as error:  # as `unfelt` does, less a call
            self._failed("cleared", error)

    @unfelt
    def model_cleared(self, module: nn.Module) -> None:
        """Hear that the zero_grad() of a model was called."""
        known = self._parameters_of(module)
        for each in self._watched.values():
            own = [id(p) for p in each.parameters()]
            if own and known.issuperset(own):
                each.held = False
                each.happened("z")
            elif not known.isdisjoint(own):
                each.happened("y")

    def _parameters_of(self, module: nn.Module) -> frozenset[int]:
        reference, uses, known = self._of_module.get(id(module), (None, 0, frozenset()))
        if reference is None or reference() is not module or uses >= REFRESH:
            reference, uses, known = weakref.ref(module), 0, frozenset(id(p) for p in module.parameters())
        self._of_module[id(module)] = reference, uses + 1, known
        return known

    @unfelt
    def clipped(self, parameters: Iterable[Tensor]) -> None:
        """Hear that gradients of these were clipped."""
        known = {id(p) for p in parameters}
        for each in self._watched.values():
            if any(id(p) in known for p in each.parameters()):
                each.happened("c")

    @unfelt
    def epoch_begins(self) -> None:
        """Hear that a pass over a dataset begins, during the last one over which there were updates."""
        for each in self._watched.values():
            each.happened("b")

    @unfelt
    def epoch_ended(self) -> None:
        """Hear that a pass over a DataLoader ended, during which there was a backward pass."""
        for each in self._watched.values():
            each.happened("e")

    def updates_of(self, optimizer: Optimizer) -> int:
        """Return how many updates were seen of an optimizer."""
        watched = self._watched.get(id(optimizer))
        return watched.history.updates if watched else 0

    def close(self) -> None:
        """Write down what led to no update any more."""
        for each in self._watched.values():
            each.history.pending = each.letters
            each.note_lines()
            each.letters = ""


def _first_grad(groups: Groups) -> bool:
    """Say whether the first parameter has a gradient: a look at one where most have it or none."""
    params = groups[0]["params"]
    return bool(params) and params[0].grad is not None


def _any_grad(groups: Groups) -> bool:
    """Say whether any parameter has a gradient."""
    for group in groups:
        for p in group["params"]:
            if p.grad is not None:
                return True
    return False


def _any_changed(seen: Seen) -> bool:
    """Say whether new gradient has come into any `.grad` since."""
    for p, grad, version in seen:
        now = p.grad
        if now is not None and (now is not grad or now._version != version):  # noqa: SLF001 - nothing public tells
            return True
    return False


def _steps_under_way(optimizer: Optimizer | None) -> int:
    """Return how many calls of this optimizer's step, as torch wraps it, are on the stack."""
    count = 0
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - inspect.currentframe() is the same, and slower
    while frame is not None:
        code = frame.f_code
        if code.co_name == "wrapper" and code.co_filename.endswith("optimizer.py"):
            count += frame.f_locals.get("self") is optimizer
        frame = frame.f_back
    return count
