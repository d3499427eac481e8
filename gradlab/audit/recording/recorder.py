"""Hearing what a script does, and keeping what findings need of it.

Nothing here may be felt by the script: no gradient is changed, no random number drawn, no tensor kept (optimizers are
held by weak references; what is kept of a gradient are a few numbers), and what goes wrong here is noted and passed
over.

Most updates are not measured, and most scripts have one optimizer, which is cleared by call. Then `alone` is that one,
and the sensors at each step note by themselves what they hear: a call of ours is a percent of a small script's step.

A backward pass writes `.grad` without Python's lock: to read one meanwhile, in another thread, breaks the process. So
where several threads train at once, the recorder hears no more from then on. It knows the `thread` whose pass it
hears, or of which it is looking at gradients; others wait at `_enters`. Python changes threads at calls and at ends of
loops: between the look at one attribute and the next, no other thread comes.
"""

from __future__ import annotations

import functools
import signal
import threading
import weakref
from threading import get_ident
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from gradlab.audit.history.history import History, OptimizerHistory
from gradlab.audit.places import here
from gradlab.audit.recording.loss import of_pass
from gradlab.audit.recording.reach import Reach
from gradlab.audit.recording.watched import FIRST, Watched, any_changed, any_grad, passes_under_way, steps_under_way

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from gradlab.audit.history.loss import Loss
    from gradlab.audit.recording.samples import Sample
    from gradlab.audit.recording.watched import Groups, Seen

P = ParamSpec("P")

GAP = 23  # updates from one that is measured to the next: a number that no usual window or epoch is a multiple of
SHARE = 8  # or an eighth of those so far, where that is more: what has changed since half of them is seen four times
FIRST_OF_SAMPLED = 2  # updates that are measured whatever the sampling
MOST_OPTIMIZERS = 64
MOST_LOSSES = 64  # of a window
MOST_FAULTS = 20
PATIENCE = 1.0  # seconds to wait for another thread that looks at gradients; a fork may have left it behind
REFRESH = 100  # calls of a model's zero_grad() between two looks at which parameters it has


def unfelt(method: Callable[Concatenate[Recorder, P], None]) -> Callable[Concatenate[Recorder, P], None]:
    """Note what goes wrong in the method, and let the script go on."""

    @functools.wraps(method)
    def call(self: Recorder, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if not self._enters(trains=False):
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # whatever it is, it is not the script's
            self.failed(method.__name__, error)
        finally:
            self._leaves()

    return call


class Recorder:
    """Hears what happens and writes the history.

    Args:
        every: measure the way to one update in so many; None for the first few, and then ever fewer.
        measured: is called after each update that was measured; what it raises is meant for the script.
    """

    def __init__(self, every: int | None = None, measured: Callable[[], None] | None = None) -> None:
        self.history = History()
        self._every = every
        self._measured = measured
        self._watched: dict[int, Watched] = {}
        self._beyond: weakref.WeakSet[Optimizer] = weakref.WeakSet()  # for which there was no room
        self.fetched = 0  # batches given by DataLoaders so far
        self._reach = Reach(self.history, self._watched)
        self.depth = 0  # of backward passes within each other
        self.thread: int | None = None  # in which a pass is under way, or gradients are looked at
        self._turn = threading.RLock()  # of a thread to look at gradients
        self._deaf = False  # for good
        self.alone: Watched | None = None  # the only one there is, where the way to its next update is not looked at
        self.calm: Watched | None = None  # the same, during a backward pass before which it had no gradient
        self._loss: Loss | None = None  # of the backward pass under way, where it is wanted
        self._before: list[tuple[Watched, Groups, Seen | None, list[Sample]]] = []
        self._of_module: dict[int, tuple[weakref.ref[nn.Module], int, frozenset[int]]] = {}

    def failed(self, what: str, error: Exception) -> None:
        """Note what went wrong here, which the script must not feel; but raise what its handler of a signal raised."""
        if _is_of_handler(error):
            raise error
        if len(self.history.faults) < MOST_FAULTS:
            self.history.faults.append(f"{what}: {type(error).__name__}: {error}")

    def _enters(self, *, trains: bool = True) -> bool:
        """Say whether to hear what a thread does; others wait until it `_leaves`.

        Args:
            trains: whether it is a pass, a step or a clearing: one amid the pass of another thread ends the hearing.
        """
        turn = self._turn
        if self._deaf:
            return False
        if not turn.acquire(blocking=False) and not turn.acquire(timeout=PATIENCE):
            self._hear_no_more()
            return False
        if trains:
            me = get_ident()
            if not self.depth:
                self.thread = me
            elif self.thread != me and _is_of_script(me):
                self._hear_no_more()
        hears = not self._deaf  # it may have become so meanwhile
        if not hears:
            turn.release()
        return hears

    def _elsewhere(self) -> set[int | None]:
        """Return the other threads that are alive and have an optimizer.

        Its gradients are not read in this thread: that can crash where its own thread clears them meanwhile.
        """
        others = {each.thread for each in self._watched.values()} - {None, get_ident()}
        return others and others & {each.ident for each in threading.enumerate()}

    def _leaves(self) -> None:
        if not self.depth:
            self.thread = None
        self._turn.release()

    def _hear_no_more(self) -> None:
        """Look at no gradient any more: several threads train at once.

        The gradients in `_before` stay referenced: releasing one while another thread's pass replaces it can crash.
        """
        self._deaf = self.history.at_once = True
        self.alone = self.calm = None

    def next_due(self, update: int) -> int:
        """Return the next update after this one, the way to which is to be measured."""
        if self._every is not None:
            return update + 1 if update < FIRST_OF_SAMPLED else (update // self._every + 1) * self._every
        if update < FIRST:
            return update + 1
        return (update // GAP + 1) * GAP if update < GAP * SHARE else update + update // SHARE

    def _of(self, optimizer: Optimizer) -> Watched | None:
        watched = self._watched.get(id(optimizer))
        if watched is None and self._has_room(optimizer):
            watched = self._meet(optimizer)
        return watched

    def _has_room(self, optimizer: Optimizer) -> bool:
        """Say whether to watch one more; those that are gone and took no step make room."""
        if len(self.history.optimizers) < MOST_OPTIMIZERS:
            return True
        if optimizer in self._beyond:
            return False
        alive = [each.history for each in self._watched.values()]
        self.history.optimizers[:] = [
            each for each in self.history.optimizers if each.updates or any(each is one for one in alive)
        ]
        if len(self.history.optimizers) < MOST_OPTIMIZERS:
            return True
        self._beyond.add(optimizer)
        self.history.unwatched += 1
        return False

    def _meet(self, optimizer: Optimizer) -> Watched:
        settings = {
            name: float(value)
            for name, value in optimizer.defaults.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        count = sum(len(group["params"]) for group in optimizer.param_groups)
        history = OptimizerHistory(type(optimizer).__name__, count, settings)
        self.history.optimizers.append(history)
        self.alone = None
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

    def backward_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, scaled: bool) -> None:
        """Hear that a backward pass begins, perhaps within another: checkpointing does that.

        Args:
            args: those of torch.autograd.backward.
            kwargs: likewise.
            scaled: whether a GradScaler has scaled the loss.
        """
        if not self._enters():
            return
        try:
            if self.depth and self.thread == get_ident() and passes_under_way() < 2:  # one was interrupted as it began
                self.depth, self.calm, self._before, self._loss = 0, None, [], None
            self.depth += 1
            try:
                self._look_ahead(args, kwargs, scaled=scaled)
            except Exception as error:  # and the pass is heard all the same
                self.failed("_look_ahead", error)
            if self.depth > 1:
                return
            elsewhere = self._elsewhere() if len(self._watched) > 1 else ()
            for each in list(self._watched.values()):
                optimizer = each.optimizer()
                if optimizer is None or each.thread in elsewhere:
                    continue
                groups = optimizer.param_groups
                if each.in_step and not steps_under_way(optimizer):  # it has raised
                    each.in_step, each.nested = False, 0
                if each.measuring and each.several:
                    each.weights_moved(groups)
                seen = each.look(groups)
                self._before.append((each, groups, seen, each.before(groups) if each.measuring else []))
        except Exception as error:  # as `unfelt` does, less a call
            self.failed("backward_begins", error)
        finally:
            self._leaves()

    def _look_ahead(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, scaled: bool) -> None:
        """Look at the graph that is about to be used up, where that is to be measured."""
        wanted, measuring = False, self._is_measuring()
        looking = measuring and self._reach.is_to_look()
        for each in self._watched.values():
            if self.depth == 1:
                wanting = (each.measuring and looking) or (each.several and (each.measuring or not each.losses))
                each.heard = len(each.letters) if wanting else -1
                wanted |= wanting
        if measuring:
            self._reach.backward_begins(args, kwargs, nested=self.depth > 1, looking=looking)
        if wanted:
            self._loss = of_pass(args, kwargs, scaled=scaled)

    def _is_measuring(self) -> bool:
        for each in self._watched.values():  # noqa: SIM110 - any() of a generator takes twice as long
            if each.measuring:
                return True
        return False

    def backward_ends(self) -> None:
        """Hear that a backward pass ends, or has raised."""
        if not self._enters():
            return
        try:
            if not self.depth:  # it began before anything was heard
                return
            self.depth -= 1
            if self.depth > 0:
                return
            self.history.backwards += 1
            self._leave_calm()
            before, self._before = self._before, []
            while before:  # which leaves no reference to a gradient once another thread may begin a pass
                each, groups, seen, samples = before.pop(0)
                if any_grad(groups) if seen is None else any_changed(seen):
                    _got_gradient(each, groups, seen, samples)
                del seen
            if self._loss is not None:
                self._loss_was(self._loss)
        except Exception as error:  # as `unfelt` does, less a call
            self.failed("backward_ends", error)
        finally:
            self._leaves()

    def _leave_calm(self) -> None:
        """Let the end of the pass under way be heard as any other's is, if it is one of those noted in short."""
        if self.calm is not None:
            self._before.append((self.calm, self.calm.groups(), None, []))
            self.calm = None

    def _loss_was(self, loss: Loss) -> None:
        """Hear how the loss was scaled of the backward pass that has ended."""
        self._loss = None
        for each in self._watched.values():
            if 0 <= each.heard < len(each.letters) and each.letters.endswith("B") and len(each.losses) < MOST_LOSSES:
                each.losses.append(loss)

    # Steps

    def step_begins(self, optimizer: Optimizer) -> None:
        """Hear that a step begins, perhaps within itself: of a class whose step calls that of its parent."""
        if not self._enters():
            return
        try:
            watched = self._watched.get(id(optimizer)) or self._of(optimizer)
            if watched is None:
                return
            groups = optimizer.param_groups
            self._leave_calm()  # where it is a step within a pass
            if watched.in_step and steps_under_way(optimizer) > 1:  # and not one that has raised before it ended
                watched.nested += 1
                return
            watched.in_step, watched.nested, watched.thread = True, 0, get_ident()
            watched.none_found = watched.finds_none(groups)
            watched.measure_next = watched.history.updates + 2 >= watched.due
            if watched.measuring or watched.measure_next:
                self.alone, watched.resting = None, False
                watched.found = watched.samples(groups)
            now_and_then = (
                watched.window.trusted and watched.measure_next
            )  # where each update is measured, a few are enough
            if watched.window.silent or (watched.measuring and not now_and_then):
                self._reach.step_begins(watched, groups)
        except Exception as error:  # as `unfelt` does, less a call
            self.failed("step_begins", error)
        finally:
            self._leaves()

    def step_ends(self, optimizer: Optimizer) -> Callable[[], None] | None:
        """Hear that the step of an optimizer ends; return what is to be called once all have heard it."""
        if not self._enters():
            return None
        try:
            watched = self._watched.get(id(optimizer)) or self._of(optimizer)
            if watched is None or not watched.in_step:
                return None
            if watched.nested:
                watched.nested -= 1
                return None
            watched.in_step = False
            return self._ended(watched, optimizer)
        except Exception as error:  # as `unfelt` does, less a call
            self.failed("step_ends", error)
            return None
        finally:
            self._leaves()

    def _ended(self, watched: Watched, optimizer: Optimizer) -> Callable[[], None] | None:
        measured, groups = watched.measuring, optimizer.param_groups
        if (measured or watched.measure_next) and ("L" in watched.letters or hasattr(optimizer, "grad_scale")):
            watched.found = watched.samples(groups)  # a closure, or fused: unscaled within the step
        if watched.none_found and "L" not in watched.letters:
            watched.happened("0")
        if watched.attentive:
            watched.history.seen_at("S", here())
        if self.depth:
            watched.steps_amid_pass()
        watched.finish(self.fetched)
        if watched.measuring:
            watched.due = self.next_due(watched.history.updates + 1)
        others = [each for each in self._watched.values() if each is not watched] if len(self._watched) > 1 else []
        for each in others:
            each.happened("o")
        if watched.window.needs_end or any(each.window.passes for each in others):
            self._reach.step_ends(watched, groups)
        if watched.resting and not others and not watched.window.silent:
            watched.rest(groups)
            self.alone = watched
        return self._measured if measured else None

    # What happens in between

    @unfelt
    def happened(self, letter: str, optimizer: Optimizer) -> None:
        """Hear that something happened to one optimizer: a letter of the trace."""
        watched = self._watched.get(id(optimizer)) or self._of(optimizer)
        if watched is not None:
            watched.happened(letter)

    def cleared(self, optimizer: Optimizer) -> None:
        """Hear that its zero_grad() was called."""
        if not self._enters():
            return
        try:
            watched = self._watched.get(id(optimizer)) or self._of(optimizer)
            if watched is not None:
                watched.held = False
                watched.happened("z")
        except Exception as error:  # as `unfelt` does, less a call
            self.failed("cleared", error)
        finally:
            self._leaves()

    def model_cleared(self, module: nn.Module) -> None:
        """Hear that the zero_grad() of a model was called."""
        if self._enters():
            self._leaves()
        self._model_cleared(module)

    @unfelt
    def _model_cleared(self, module: nn.Module) -> None:
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
        for each in list(self._watched.values()):
            try:
                each.history.pending = each.letters
                each.note_lines()
                each.letters = ""
            except Exception as error:  # as `unfelt` does, but waiting for no other thread
                self.failed("close", error)


def _got_gradient(watched: Watched, groups: Groups, seen: Seen | None, samples: list[Sample]) -> None:
    """Note that a pass has reached parameters of this optimizer; `samples` are of their gradients before it."""
    watched.held = True
    watched.happened("L" if watched.in_step else "B", again=True)
    if watched.measuring and seen is not None:
        if len(watched.history.reached) < len(seen):
            watched.reached(seen)
        watched.joined(samples, watched.samples(groups))


def _is_of_script(thread: int) -> bool:
    """Say whether a script has started this thread: autograd's own, as of a GPU, are part of the pass under way."""
    of_others = threading._DummyThread  # noqa: SLF001 - nothing public tells
    return any(each.ident == thread and not isinstance(each, of_others) for each in threading.enumerate())


def _is_of_handler(error: Exception) -> bool:
    """Say whether an exception comes from a handler of a signal, which Python calls wherever it happens to be."""
    handlers = {getattr(signal.getsignal(each), "__code__", None) for each in signal.valid_signals()} - {None}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False
