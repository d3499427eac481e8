"""What is under way in one optimizer that is watched: the window that leads to its next update."""

from __future__ import annotations

import math
import sys
import threading
import weakref
from statistics import median
from typing import TYPE_CHECKING, Any

from gradlab.audit.history.history import Measured
from gradlab.audit.history.trace import BACKWARDS, own_part
from gradlab.audit.places import UNCOUNTED, here
from gradlab.audit.recording.reach import Window
from gradlab.audit.recording.samples import Unread, all_are_zero, inner, is_zero, sample, share

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from torch import Tensor
    from torch.optim import Optimizer

    from gradlab.audit.history.history import OptimizerHistory, Stretch
    from gradlab.audit.history.loss import Loss
    from gradlab.audit.places import Place
    from gradlab.audit.recording.samples import Sample

    Groups = list[dict[str, Any]]
    Seen = list[tuple[Tensor, Tensor | None, int]]  # parameters, what their .grad held and which version of it

FIRST = 8  # updates that are all measured
PLACED = 64  # updates measured of which the lines are asked for
PLAIN = 4  # updates in a row that are alike before elements of gradients are not read any more
PROBES = 3  # parameters of an optimizer whose gradients are looked at
LONGEST = 2000  # letters of a trace


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
        here = threading.current_thread()
        # The thread of the last step; before that the one that made it, None if that was the main thread.
        self.thread = None if here is threading.main_thread() else here.ident
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
        self.first: Callable[[], Tensor | None] = no_tensor  # a parameter that tells whether there is gradient
        self.stretch: Stretch | None = None  # of equal traces: the latest
        self.due = 2  # the next update that is measured, after the one under way and the one thereafter
        self._plain = 0  # updates measured in a row before which all was None, one pass came, and nothing after it
        self._empty = True  # there was no gradient at the last look
        self._latest = ""  # the trace that led to the last update
        self._looked: list[tuple[weakref.ref[Tensor] | None, int, Sample]] = []  # what the probes held last
        self._begin(None)

    def _begin(self, last: list[Sample] | None) -> None:
        self._last = last  # of the last update's gradient
        self._after: list[Sample] | None = None  # what the latest backward pass left
        self._kept: list[float | None] = []
        self._joins: list[float] = []
        self._weights: Sample = None
        self._moved = False
        self._bare = False  # one pass has come so far, before which there was no gradient
        self.found: list[Sample] | None = None  # by the step

    def groups(self) -> Groups:
        """Return the optimizer's groups of parameters, none once it is gone."""
        optimizer = self.optimizer()
        return optimizer.param_groups if optimizer is not None else []

    def parameters(self) -> list[Tensor]:
        """Return the optimizer's parameters, none once it is gone."""
        return [p for group in self.groups() for p in group["params"]]

    def rest(self, groups: Groups) -> None:
        """Prepare for updates before each of which nothing but letters is noted."""
        first = self._first(groups)
        self.first = no_tensor if first is None else weakref.ref(first)
        self.stretch = self.history.stretches[-1]

    def _first(self, groups: Groups) -> Tensor | None:
        """Return a parameter that has had gradient, and so tells whether there is any; None where none is known."""
        probed = self._probed(groups)
        return probed[0] if probed else None

    def _probed(self, groups: Groups) -> list[Tensor]:
        """Return the parameters that are probed; none where the groups have shrunk, and others are to be chosen."""
        try:
            return [groups[group]["params"][nth] for group, nth in self.probes]
        except IndexError:
            self.probes = []
            return []

    def happened(self, letter: str, *, again: bool = False) -> None:
        """Add a letter to the trace; not the same twice in a row, unless `again`."""
        if (again or not self.letters.endswith(letter)) and len(self.letters) < LONGEST:
            self.letters += letter
            if self.attentive:
                self.lines.append(here())

    def look(self, groups: Groups) -> Seen | None:
        """Return the parameters and what their `.grad` holds, or None where none holds any; note what was cleared."""
        if not self.measuring and not self.held:
            first = self._first(groups)
            if first is not None and first.grad is None:
                return None  # cleared by call, and seen to be: all of it is None, and a look at each costs time
        seen: Seen = []
        self._empty = True
        for group in groups:
            for p in group["params"]:
                grad = p.grad
                if grad is None:
                    seen.append((p, None, -1))
                else:
                    self._empty = self._empty and not p.requires_grad  # zeros in a frozen one are nothing that is left
                    seen.append((p, grad, grad._version))  # noqa: SLF001 - nothing public tells
        if self.held and self._empty:
            self.held = False
            self.happened("n")
        return seen

    def before(self, groups: Groups) -> list[Sample]:
        """Return what `samples` does, after a look."""
        return [None] * len(self.probes) if self._empty else self.samples(groups)

    def finds_none(self, groups: Groups) -> bool:
        """Say whether a step finds no gradient at all; note when it was cleared."""
        first = self._first(groups)
        none = (first is None or first.grad is None) and not any_grad(groups)
        if none and self.held:
            self.held = False
            self.happened("n")
        return none

    def samples(self, groups: Groups) -> list[Sample]:
        """Return a few elements of the gradients of a few parameters."""
        probed = self._probed(groups)
        if not probed:
            params = [group["params"] for group in groups]
            there = [(n, m) for n, each in enumerate(params) for m, p in enumerate(each) if p.grad is not None]
            stride = max(1, math.ceil(len(there) / PROBES))
            self.probes = there[::stride]
            probed = self._probed(groups)
        before, self._looked = self._looked, []
        for nth, p in enumerate(probed):
            grad = p.grad
            version = -1 if grad is None else grad._version  # noqa: SLF001 - nothing public tells
            then, of_then, what = before[nth] if nth < len(before) else (None, -2, None)
            if of_then != version or (grad is not None and (then is None or then() is not grad)):
                then, what = (None, None) if grad is None else (weakref.ref(grad), self._read(grad))
            self._looked.append((then, version, what))
        return [what for _, _, what in self._looked]

    def _read(self, grad: Tensor) -> Sample:
        """Return a few elements of a gradient, unless they have long been of no use: only whether they are left is."""
        return Unread() if self._plain >= PLAIN else sample(grad)

    def weights_moved(self, groups: Groups) -> None:
        """Note whether the weights have changed since the last backward pass of this window."""
        first = self._first(groups)
        if first is None:
            return
        now = sample(first)
        self._moved |= self._after is not None and self._weights is not None and now != self._weights
        self._weights = now

    def reached(self, seen: Seen) -> None:
        """Note which parameters a backward pass has reached."""
        self.history.reached.update(nth for nth, one in enumerate(seen) if any_changed([one]))

    def joined(self, before: list[Sample], after: list[Sample]) -> None:
        """Measure what a backward pass found in `.grad`, and take what it left."""
        self._bare = self._after is None and not any(before)
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

    def steps_amid_pass(self) -> None:
        """Forget what was measured of the window: the pass that it ends in is not over, nor is its gradient whole."""
        self.history.amid = True
        self._kept, self._joins = [], []

    def finish(self, fetched: int) -> None:
        """Close the window with an update, and begin the next one; `fetched` is how many batches were given so far."""
        lines = self.note_lines() if self.lines else 0
        letters, history = self.letters, self.history
        history.add_update(letters)
        if letters != self._latest:
            self._latest, self.several = letters, letters.count("B") > 1 or letters.count("L") > 1
        if self.losses:
            history.add_losses(letters, self.losses)
            self.losses = []
        history.add_fetched(fetched - self.fetched)
        self.fetched, self.heard, self.letters = fetched, 0, ""
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
        kept = tuple(part for part in self._kept if part is not None)
        plain = self._bare and after == found
        self._plain = self._plain + 1 if plain else 0
        if plain and self._plain > PLAIN:  # nothing was read
            return Measured(self.history.updates, kept, (), 1.0, 1.0, lines=lines)
        ss = sum(inner(each, each) for each in found)
        aa, sa = ss, ss
        if after != found:
            aa = sum(inner(each, each) for each in after)
            sa = sum(inner(s, a) for s, a in zip(found, after, strict=False))
        nothing = all(map(is_zero, found))
        empty = nothing and all_are_zero(self.parameters())  # and not those of frozen layers alone
        known = 0 < aa < math.inf and ss < math.inf and nothing == empty
        return Measured(
            self.history.updates,
            kept,
            tuple(self._joins),
            sa / aa if known else None,
            sa / math.sqrt(aa * ss) if known and ss else None,
            empty,
            self._moved,
            lines,
        )


def no_tensor() -> None:
    """Stand where there is no reference to a tensor."""


def any_grad(groups: Groups) -> bool:
    """Say whether any parameter has a gradient."""
    for group in groups:
        for p in group["params"]:
            if p.grad is not None:
                return True
    return False


def any_changed(seen: Seen) -> bool:
    """Say whether new gradient has come into any `.grad` since."""
    for p, grad, version in seen:
        now = p.grad
        if now is not None and (now is not grad or now._version != version):  # noqa: SLF001 - nothing public tells
            return True
    return False


def steps_under_way(optimizer: Optimizer | None) -> int:
    """Return how many calls of this optimizer's step, as torch wraps it, are on the stack."""
    count = 0
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - inspect.currentframe() is the same, and slower
    while frame is not None:
        code = frame.f_code
        if code.co_name == "wrapper" and code.co_filename.endswith("optimizer.py"):
            count += frame.f_locals.get("self") is optimizer
        frame = frame.f_back
    return count


def passes_under_way() -> int:
    """Return how many backward passes that are listened to are on the stack of this thread."""
    count = 0
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - inspect.currentframe() is the same, and slower
    while frame is not None:
        count += frame.f_code.co_filename == UNCOUNTED and "backward" in frame.f_code.co_freevars
        frame = frame.f_back
    return count
