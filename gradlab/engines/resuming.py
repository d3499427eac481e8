"""The state of a training between two steps: enough to resume later, bit for bit as if it had never stopped.

That is the weights and buffers, `.grad` (what a mode keeps is part of the state here), optimizer and schedule, all
generators that random numbers come from, and the position: how many of the epoch's batches are drawn.

Iterators cannot be saved. So the states of the generators are recorded when a pass over the batches begins. To resume,
batches are drawn again from there and thrown away. The last of them must equal the batch that was drawn before.
Otherwise the task does not draw the same batches twice, and the training cannot resume.
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

from gradlab.engines.cursor import Cursor
from gradlab.errors import shortened
from gradlab.tasks.hashing import hash_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import nn

    from gradlab.optimizers import Optimizer, Scheduler
    from gradlab.tasks import Task

MOST_SEARCHED = 1000  # elements of a container; a longer one is taken to hold data and no generator


class CannotResumeError(Exception):
    """A training cannot resume from what was saved."""


class Checkpoint(NamedTuple):
    """What a checkpoint holds: the run that it belongs to, how far that was, and its state."""

    identity: str
    versions: dict[str, str]  # the rows depend on them
    step: int
    seconds: float  # of training until then
    rows_sha256: str  # of the log until then
    state: dict[str, Any]

    def to_bytes(self) -> bytes:
        """Return the content of the checkpoint's file."""
        import torch

        content = io.BytesIO()
        torch.save(self._asdict(), content)
        return content.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Checkpoint:
        """Return the checkpoint in a file; nothing in it is executed: only tensors and plain values are accepted.

        Raises:
            CannotResumeError: it is not a checkpoint of this version of gradlab.
        """
        import torch

        try:
            found = cls(**torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
        except (MemoryError, OSError):  # nothing is wrong with the checkpoint
            raise
        except Exception as error:  # torch has many ways to refuse
            raise CannotResumeError(f"it is not a checkpoint: {shortened(error, 120)}") from None
        kinds = zip(found, (str, dict, int, float, str, dict), strict=True)
        if (
            not all(type(value) is kind for value, kind in kinds)
            or found.step <= 0
            or not 0 <= found.seconds < math.inf
        ):
            raise CannotResumeError("it is not a checkpoint: it does not hold what one does")
        return found


class Generators:
    """The generators of a training: Python's, NumPy's and torch's global ones, and those that the task holds.

    Attributes:
        own: those of the task.
        begin: the states of all when the current pass over the batches began.
    """

    def __init__(self, task: Task) -> None:
        self.own = list(_own_generators([task.batches, task.model, task.loss]))
        self.begin: dict[str, Any] = {}

    def now(self) -> dict[str, Any]:
        """Return the states of all generators."""
        import torch

        cuda: Any = torch.cuda
        numpy = sys.modules.get("numpy")
        return {
            "python": random.getstate(),
            "numpy": numpy.random.get_state() if numpy else None,
            "torch": torch.get_rng_state(),
            # Asking a GPU for its state would start it, even for a run on the CPU.
            "cuda": cuda.get_rng_state_all() if cuda.is_initialized() else [],
            "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
            "own": [_state_of(each) for each in self.own],
        }

    def set(self, state: Mapping[str, Any]) -> None:
        """Put all generators into the states that `now` returned, in this process or another."""
        import torch

        if len(state["own"]) != len(self.own):
            raise CannotResumeError(
                f"it held {len(state['own'])} generators of the task, which has {len(self.own)} now"
            )
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


class RewindableBatches:
    """Batches that record the states of the generators when a pass begins, so that the pass can be drawn again."""

    def __init__(self, batches: Iterable[Any], generators: Generators) -> None:
        self.batches, self.generators = batches, generators

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]  # a TypeError where there is no length is what is wanted

    def __iter__(self) -> Iterator[Any]:
        self.generators.begin = self.generators.now()
        return iter(self.batches)


def rewindable(task: Task, generators: Generators) -> Task:
    """Return the task with batches that can be drawn again; a plain list can be anyway."""
    is_plain = type(task.batches) in (list, tuple)
    return task if is_plain else replace(task, batches=RewindableBatches(task.batches, generators))


class TrainingState:
    """All that has a state in a training.

    Attributes:
        task: what to train on: the task given, with batches that can be drawn again.
        optimizer: the one given.
        scheduler: the one given.
        cursor: to be passed to the training loop.
        generators: of the task, and global ones.
    """

    def __init__(self, task: Task, optimizer: Optimizer, scheduler: Scheduler | None) -> None:
        self.generators = Generators(task)
        self.task = rewindable(task, self.generators)
        self.optimizer, self.scheduler, self.cursor = optimizer, scheduler, Cursor()

    def snapshot(self) -> dict[str, Any]:
        """Return all that the training needs to resume after the last row: tensors and plain values."""
        model, generators = self.task.model, self.generators
        return {
            **self.cursor.state_dict(),
            "batch": hash_of(self.cursor.batch),
            "model": model.state_dict(),
            "buffers": _hidden_buffers(model),
            "grad": [parameter.grad for parameter in model.parameters()],
            "optimizer": state_dict_of(self.optimizer),
            "scheduler": state_dict_of(self.scheduler),
            "generators": to_plain_values({"begin": generators.begin, "now": generators.now()}),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `snapshot` returned for another training of the same task; this one was just built.

        The training itself draws the batches of the current pass again, from generators put back to where the pass
        began. It then calls `cursor.on_redrawn`.

        Raises:
            CannotResumeError: the task has changed; the training raises it, too, when it draws other batches.
        """
        _check_same_model(state, self.task.model)
        self._load(state)
        if isinstance(self.task.batches, RewindableBatches):
            self.generators.set(state["generators"]["begin"])

        def check_batch(batch: object) -> None:
            if hash_of(batch) != state["batch"]:
                raise CannotResumeError("the task does not draw the same batches again")
            self.generators.set(state["generators"]["now"])

        self.cursor.on_redrawn = check_batch

    def _load(self, state: Mapping[str, Any]) -> None:
        """Load weights, buffers, `.grad`, and the states of optimizer, schedule and cursor."""
        model, window = self.task.model, self.cursor.window
        model.load_state_dict(state["model"])
        for name, buffer in _hidden_buffers(model).items():
            buffer.copy_(state["buffers"][name])
        for parameter, grad in zip(model.parameters(), state["grad"], strict=True):
            parameter.grad = None if grad is None else grad.to(parameter.device)
        if state["optimizer"] is not None:
            load_optimizer(state["optimizer"], self.optimizer)
        if state["scheduler"] is not None:
            self.scheduler.load_state_dict(state["scheduler"])  # type: ignore[union-attr]  # what gave a state takes it
        self.cursor.load_state_dict(state)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if window.kept:
            kept = zip(window.kept, trained, strict=True)
            window.kept = [None if each is None else each.to(parameter.device) for each, parameter in kept]


def _check_same_model(state: Mapping[str, Any], model: nn.Module) -> None:
    """Raise CannotResumeError where the model has not the weights and buffers that were saved."""
    for found, saved in ((model.state_dict(), state["model"]), (_hidden_buffers(model), state["buffers"])):
        if _shapes(found) != _shapes(saved):
            raise CannotResumeError("the model has other weights or buffers now")
    if len(list(model.parameters())) != len(state["grad"]):
        raise CannotResumeError("the model has other parameters now")


def _shapes(tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {name: (getattr(each, "shape", None), getattr(each, "dtype", None)) for name, each in tensors.items()}


def load_optimizer(saved: Mapping[str, Any], optimizer: Any) -> None:
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
    saved = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name not in saved}


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
            continue  # it has no state
        if isinstance(thing, kinds):
            yield thing
        else:
            waiting += reversed(list(_contents_of(thing)))


def _contents_of(thing: object) -> Iterator[object]:
    """Yield what a value holds: elements, attributes, and what a function closes over, defaults to or names."""
    if isinstance(thing, Mapping | list | tuple | set) and len(thing) < MOST_SEARCHED:
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


def to_plain_values(state: Any) -> Any:
    """Return states of generators with NumPy's arrays as lists: nothing but tensors and plain values is saved."""
    if isinstance(state, dict):
        return {key: to_plain_values(each) for key, each in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(map(to_plain_values, state))
    return state.tolist() if type(state).__module__ == "numpy" else state
