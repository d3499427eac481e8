"""What a training is made of between two steps, so that it can go on later as if nothing had happened.

That is the weights and buffers, `.grad` (what a mode keeps is part of the state here), optimizer and schedule, every
generator that random numbers come from, and the position: how far the epoch's batches are drawn.

Iterators cannot be saved. So generators are noted when a pass over the batches begins, and to go on, batches are drawn
again from there and thrown away. The last of them must be the one that was drawn before, or else the task does not
draw its batches alike twice and the run cannot go on.
"""

from __future__ import annotations

import io
import random
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.errors import shortened
from gradlab.tasks.fairness import hash_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import nn

    from gradlab.optimizers import Optimizer, Scheduler
    from gradlab.tasks import Task
    from gradlab.training import Cursor

MARK_EVERY = 0.25  # seconds between two full notes of all generators, at most
PASSES = 64  # passes between two of them, at most
LONG = 1000  # elements of a container, from which on it is taken to hold data and no generator


class CannotGoOnError(Exception):
    """What was saved does not fit the training that it should go on in."""


class Training(NamedTuple):
    """All that has a state in a training."""

    task: Task
    optimizer: Optimizer
    scheduler: Scheduler | None
    cursor: Cursor
    generators: Generators


class Noted:
    """Batches, the generators of which are noted when a pass begins."""

    def __init__(self, batches: Iterable[Any], generators: Generators) -> None:
        self.batches, self.generators = batches, generators

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]  # a TypeError where there is no length is what is wanted

    def __iter__(self) -> Iterator[Any]:
        self.generators.passing()
        return iter(self.batches)


class Generators:
    """The generators of a training: Python's, NumPy's and torch's global ones, and those that the task holds.

    `passing` notes them at the begin of a pass. All of them take longer to note than a step of a small model, so of
    passes in quick succession only torch's global one is noted, from which a DataLoader draws its order.
    """

    def __init__(self, task: Task) -> None:
        self.own = list(_own_generators([task.batches, task.model, task.loss]))
        self.mark: dict[str, Any] = {}
        self.passes: list[Any] = []  # torch's global state at the begin of each pass since the mark
        self.due = 0.0

    def passing(self) -> None:
        """Note the generators: a pass over the batches begins."""
        import torch

        if len(self.passes) >= PASSES or time.monotonic() >= self.due:
            self.mark, self.passes = self.now(), []
            self.due = time.monotonic() + MARK_EVERY
        self.passes.append(torch.get_rng_state())

    def now(self) -> dict[str, Any]:
        """Return the state of all generators."""
        import torch

        numpy = sys.modules.get("numpy")
        return {
            "python": random.getstate(),
            "numpy": _numpy_state(numpy) if numpy else None,
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "own": [_state_of(each) for each in self.own],
        }

    def set(self, state: Mapping[str, Any]) -> None:
        """Put all generators into a state that `now` returned, in this process or another."""
        import torch

        if len(state["own"]) != len(self.own):
            raise CannotGoOnError(f"it held {len(state['own'])} generators of the task, which has {len(self.own)} now")
        random.setstate(state["python"])
        if state["numpy"] is not None:
            import numpy as np

            np.random.set_state(state["numpy"])  # the global one, which is what users draw from
        torch.set_rng_state(state["torch"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])
        for generator, each in zip(self.own, state["own"], strict=True):
            _set_state(generator, each)


def noted(task: Task, generators: Generators) -> Task:
    """Return the task with `generators` noted at the begin of each pass, unless its batches are a plain list."""
    fixed = type(task.batches) in (list, tuple)  # nothing is drawn to draw from these
    return task if fixed else replace(task, batches=Noted(task.batches, generators))


def snapshot(training: Training) -> dict[str, Any]:
    """Return all that the training needs to go on after the row that it yielded last: tensors and plain values."""
    model, generators = training.task.model, training.generators
    return {
        **training.cursor.state(),
        "batch": hash_of(training.cursor.batch),
        "model": model.state_dict(),
        "buffers": _hidden_buffers(model),
        "grad": [parameter.grad for parameter in model.parameters()],
        "optimizer": _state_dict(training.optimizer),
        "scheduler": _state_dict(training.scheduler),
        "generators": {"mark": generators.mark, "passes": generators.passes, "now": generators.now()},
    }


class Saved(NamedTuple):
    """What a checkpoint holds: which training it is of, where that stood, and its state there."""

    identity: str
    versions: dict[str, str]  # the rows depend on them
    step: int
    seconds: float  # of training until then
    state: dict[str, Any]


def packed(saved: Saved) -> bytes:
    """Return the content of a checkpoint."""
    import torch

    content = io.BytesIO()
    torch.save(saved._asdict(), content)
    return content.getvalue()


def unpacked(content: bytes) -> Saved:
    """Return what a checkpoint holds; nothing in it is run: tensors and plain values are all that is accepted.

    Raises:
        CannotGoOnError: it is not a checkpoint of this version of gradlab.
    """
    import torch

    try:
        saved = Saved(**torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
        assert isinstance(saved.step, int)
        assert isinstance(saved.seconds, float)
    except Exception as error:  # torch tells in many ways what it refuses
        raise CannotGoOnError(f"it is not a checkpoint: {shortened(error, 120)}") from None
    return saved


def restore(state: Mapping[str, Any], training: Training) -> None:
    """Put a training that was just built where `snapshot` found another one of the same task.

    Batches of passes that are over are drawn again here, since what they come from may not be a generator alone. Those
    of the pass that is under way are drawn by the training itself, which then calls `cursor.caught_up`.

    Raises:
        CannotGoOnError: the task is not the one that it was; from the training, too, when it draws other batches.
    """
    try:
        _put_back(state, training)
        _draw_again(state["generators"], training)
    except CannotGoOnError:
        raise
    except Exception as error:  # damage is told by a hash: this is a state of another model, torch or gradlab
        raise CannotGoOnError(f"{type(error).__name__}: {shortened(error, 120)}") from None

    def caught_up(batch: object) -> None:
        if hash_of(batch) != state["batch"]:
            raise CannotGoOnError("the task does not draw the same batches again")
        training.generators.set(state["generators"]["now"])

    training.cursor.caught_up = caught_up


def _put_back(state: Mapping[str, Any], training: Training) -> None:
    """Put back weights, buffers, `.grad`, and the states of optimizer, schedule and cursor."""
    model = training.task.model
    model.load_state_dict(state["model"])
    hidden = _hidden_buffers(model)
    if hidden.keys() != state["buffers"].keys():
        raise CannotGoOnError("the model has other buffers now")
    for name, buffer in hidden.items():
        buffer.copy_(state["buffers"][name])
    for parameter, grad in zip(model.parameters(), state["grad"], strict=True):
        parameter.grad = None if grad is None else grad.to(parameter.device)
    for thing, saved in ((training.optimizer, state["optimizer"]), (training.scheduler, state["scheduler"])):
        if saved is not None:
            thing.load_state_dict(saved)  # type: ignore[union-attr]  # what gave a state takes it
    training.cursor.begin_at(state)


def _draw_again(generators: Mapping[str, Any], training: Training) -> None:
    """Draw the batches of the passes that are over, from the last mark on, and begin the one that is under way."""
    import torch

    batches = training.task.batches
    if not isinstance(batches, Noted):
        return
    training.generators.set(generators["mark"])
    for begin in generators["passes"][:-1]:
        torch.set_rng_state(begin)
        deque(batches.batches, maxlen=0)
    torch.set_rng_state(generators["passes"][-1])


def _state_dict(thing: object) -> Any:
    return thing.state_dict() if hasattr(thing, "state_dict") else None


def _hidden_buffers(model: nn.Module) -> dict[str, Any]:
    """Return the buffers that a state_dict leaves out."""
    return {name: buffer for name, buffer in model.named_buffers() if name not in model.state_dict()}


def _own_generators(roots: list[object]) -> Iterator[Any]:
    """Yield the generators that can be reached from what a user has built, always in the same order."""
    import torch

    numpy = sys.modules.get("numpy")
    kinds = (torch.Generator, random.Random, *((numpy.random.Generator, numpy.random.RandomState) if numpy else ()))
    waiting, seen = list(reversed(roots)), set[int]()
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, torch.Tensor | type | ModuleType):
            continue
        seen.add(id(thing))
        if isinstance(thing, kinds):
            yield thing
        else:
            waiting += reversed(list(_parts(thing)))


def _parts(thing: object) -> Iterator[object]:
    """Yield what a value holds: elements, attributes, and what a function has been given."""
    if isinstance(thing, Mapping | list | tuple | set):
        if len(thing) < LONG:
            yield from thing.values() if isinstance(thing, Mapping) else thing
    elif isinstance(thing, FunctionType):
        yield from (cell.cell_contents for cell in thing.__closure__ or () if _is_filled(cell))
        yield from thing.__defaults__ or ()
    elif isinstance(thing, MethodType):
        yield thing.__self__
    elif isinstance(thing, partial):
        yield from (thing.func, thing.args, thing.keywords)
    else:
        slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
        yield from (getattr(thing, name) for name in slots if name != "__weakref__" and hasattr(thing, name))
        yield from getattr(thing, "__dict__", {}).values()


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a variable that has no value yet
        return False


def _numpy_state(numpy: Any) -> tuple[Any, ...]:
    """Return the state of NumPy's global generator in plain values."""
    kind, keys, *rest = numpy.random.get_state()
    return (kind, keys.tolist(), *rest)


def _state_of(generator: Any) -> Any:
    """Return the state of a generator of torch, Python or NumPy, in tensors and plain values."""
    if hasattr(generator, "getstate"):
        return generator.getstate()
    if hasattr(generator, "bit_generator"):
        return _plain(generator.bit_generator.state)
    state = generator.get_state()
    return state if hasattr(state, "numel") else (state[0], state[1].tolist(), *state[2:])


def _set_state(generator: Any, state: Any) -> None:
    if hasattr(generator, "setstate"):
        generator.setstate(state)
    elif hasattr(generator, "bit_generator"):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)


def _plain(state: Any) -> Any:
    """Return the state of a bit generator with its arrays as lists."""
    if isinstance(state, dict):
        return {key: _plain(each) for key, each in state.items()}
    return state.tolist() if hasattr(state, "tolist") else state
