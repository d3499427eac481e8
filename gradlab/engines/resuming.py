"""What a training is made of between two steps, so that it can go on later as if nothing had happened.

That is the weights and buffers, `.grad` (what a mode keeps is part of the state here), optimizer and schedule, every
generator that random numbers come from, and the position: how far the epoch's batches are drawn.

Iterators cannot be saved. So generators are noted when a pass over the batches begins, and to go on, batches are drawn
again from there and thrown away. The last of them must be the one that was drawn before, or else the task does not
draw its batches alike twice and the run cannot go on.
"""

from __future__ import annotations

import io
import math
import random
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.errors import shortened
from gradlab.tasks.hashing import hash_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import nn

    from gradlab.engines.cursor import Cursor
    from gradlab.optimizers import Optimizer, Scheduler
    from gradlab.tasks import Task

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

    Attributes:
        own: those of the task.
        begin: the states of all when the pass under way began.
    """

    def __init__(self, task: Task) -> None:
        self.own = list(_own_generators([task.batches, task.model, task.loss]))
        self.begin: dict[str, Any] = {}

    def passing(self) -> None:
        """Note the generators: a pass over the batches begins."""
        self.begin = self.now()

    def now(self) -> dict[str, Any]:
        """Return the state of all generators."""
        import torch

        numpy = sys.modules.get("numpy")
        return {
            "python": random.getstate(),
            "numpy": numpy.random.get_state() if numpy else None,
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if _has_begun(torch.cuda) else [],
            "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
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
        if state["mps"] is not None:
            torch.mps.set_rng_state(state["mps"])
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
        **training.cursor.state_dict(),
        "batch": hash_of(training.cursor.batch),
        "model": model.state_dict(),
        "buffers": _hidden_buffers(model),
        "grad": [parameter.grad for parameter in model.parameters()],
        "optimizer": state_dict_of(training.optimizer),
        "scheduler": state_dict_of(training.scheduler),
        "generators": plain({"begin": generators.begin, "now": generators.now()}),
    }


class Saved(NamedTuple):
    """What a checkpoint holds: which training it is of, where that stood, and its state there."""

    identity: str
    versions: dict[str, str]  # the rows depend on them
    step: int
    seconds: float  # of training until then
    rows_sha256: str  # of the log until then
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
    except (MemoryError, OSError):  # nothing is wrong with the checkpoint
        raise
    except Exception as error:  # torch tells in many ways what it refuses
        raise CannotGoOnError(f"it is not a checkpoint: {shortened(error, 120)}") from None
    kinds = zip(saved, (str, dict, int, float, str, dict), strict=True)
    sound = all(type(value) is kind for value, kind in kinds) and saved.step > 0 and 0 <= saved.seconds < math.inf
    if not sound:
        raise CannotGoOnError("it is not a checkpoint: it does not hold what one does")
    return saved


def restore(state: Mapping[str, Any], training: Training) -> None:
    """Put a training that was just built where `snapshot` found another one of the same task.

    The batches of the pass that is under way are drawn again by the training itself, from generators put back to where
    the pass began; it then calls `cursor.on_redrawn`.

    Raises:
        CannotGoOnError: the task is not the one that it was; from the training, too, when it draws other batches.
    """
    _check_same_model(state, training.task.model)
    _put_back(state, training)
    if isinstance(training.task.batches, Noted):
        training.generators.set(state["generators"]["begin"])

    def caught_up(batch: object) -> None:
        if hash_of(batch) != state["batch"]:
            raise CannotGoOnError("the task does not draw the same batches again")
        training.generators.set(state["generators"]["now"])

    training.cursor.on_redrawn = caught_up


def _check_same_model(state: Mapping[str, Any], model: nn.Module) -> None:
    """Raise CannotGoOnError where the model has not the weights and buffers that were saved."""
    for found, saved in ((model.state_dict(), state["model"]), (_hidden_buffers(model), state["buffers"])):
        if _shapes(found) != _shapes(saved):
            raise CannotGoOnError("the model has other weights or buffers now")
    if len(list(model.parameters())) != len(state["grad"]):
        raise CannotGoOnError("the model has other parameters now")


def _shapes(tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {name: (getattr(each, "shape", None), getattr(each, "dtype", None)) for name, each in tensors.items()}


def _put_back(state: Mapping[str, Any], training: Training) -> None:
    """Put back weights, buffers, `.grad`, and the states of optimizer, schedule and cursor."""
    model = training.task.model
    model.load_state_dict(state["model"])
    for name, buffer in _hidden_buffers(model).items():
        buffer.copy_(state["buffers"][name])
    for parameter, grad in zip(model.parameters(), state["grad"], strict=True):
        parameter.grad = None if grad is None else grad.to(parameter.device)
    if state["optimizer"] is not None:
        put_back_optimizer(state["optimizer"], training.optimizer)
    if state["scheduler"] is not None:
        training.scheduler.load_state_dict(state["scheduler"])  # type: ignore[union-attr]  # what gave a state takes it
    training.cursor.load_state_dict(state)
    window = training.cursor.window
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if window.kept:
        kept = zip(window.kept, trained, strict=True)
        window.kept = [None if each is None else each.to(parameter.device) for each, parameter in kept]


def put_back_optimizer(saved: Mapping[str, Any], optimizer: Any) -> None:
    """Load an optimizer's state, each tensor in the type that it had: torch brings all to the parameters' type."""
    optimizer.load_state_dict(saved)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for nth, values in saved["state"].items():
        loaded = optimizer.state[parameters[nth]]
        for name, value in values.items():
            if hasattr(value, "dtype") and value.dtype != loaded[name].dtype:
                loaded[name] = value.to(loaded[name].device)


def state_dict_of(thing: object) -> Any:
    """Return the state of an optimizer or a schedule; None of what has none."""
    return thing.state_dict() if hasattr(thing, "state_dict") else None


def _hidden_buffers(model: nn.Module) -> dict[str, Any]:
    """Return the buffers that a state_dict leaves out."""
    told = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name not in told}


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
        if isinstance(thing, random.SystemRandom):
            continue  # it has no state: what it draws cannot be drawn again
        if isinstance(thing, kinds):
            yield thing
        else:
            waiting += reversed(list(_parts(thing)))


def _parts(thing: object) -> Iterator[object]:
    """Yield what a value holds: elements, attributes, and what a function has been given or names."""
    if isinstance(thing, Mapping | list | tuple | set) and len(thing) < LONG:
        yield from thing.values() if isinstance(thing, Mapping) else thing
    if isinstance(thing, FunctionType):
        yield from (cell.cell_contents for cell in thing.__closure__ or () if _is_filled(cell))
        yield from thing.__defaults__ or ()
        named = (thing.__globals__.get(name) for name in thing.__code__.co_names)
        yield from (each for each in named if hasattr(each, "getstate") or hasattr(each, "get_state"))
    elif isinstance(thing, MethodType):
        yield from (thing.__self__, thing.__func__)
    elif isinstance(thing, partial):
        yield from (thing.func, thing.args, thing.keywords)
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    yield from (getattr(thing, name) for name in slots if name != "__weakref__" and hasattr(thing, name))
    yield from getattr(thing, "__dict__", {}).values()


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a variable that has no value yet
        return False


def _has_begun(cuda: Any) -> bool:
    """Say whether something is on a GPU: asking one for its state before would start it, for a run on the CPU too."""
    return bool(cuda.is_initialized())


def _state_of(generator: Any) -> Any:
    """Return the state of a generator of torch, Python or NumPy."""
    if hasattr(generator, "getstate"):
        return generator.getstate()
    return generator.bit_generator.state if hasattr(generator, "bit_generator") else generator.get_state()


def _set_state(generator: Any, state: Any) -> None:
    if hasattr(generator, "setstate"):
        generator.setstate(state)
    elif hasattr(generator, "bit_generator"):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)


def plain(state: Any) -> Any:
    """Return states of generators with NumPy's arrays as lists: nothing but tensors and plain values is saved."""
    if isinstance(state, dict):
        return {key: plain(each) for key, each in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(map(plain, state))
    return state.tolist() if type(state).__module__ == "numpy" else state
