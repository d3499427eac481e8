"""The state of a training between two steps. It is enough to resume bit for bit.

It consists of weights, buffers, `.grad`, optimizer, schedule, all random generators, and the position in the epoch.

Iterators cannot be saved. So the state of the generators is saved at the start of each pass over the batches. On
resuming, the epoch's earlier batches are drawn again from that state and discarded. The last one must equal the batch
that was drawn before. If it differs, the training cannot resume.
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
from gradlab.tasks.global_generators import global_states, set_global_states
from gradlab.tasks.hashing import hash_of
from gradlab.tasks.sources import is_of_user, variables_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor, nn

    from gradlab.optimizers import Optimizer, Scheduler
    from gradlab.tasks import Task

STATES = ("getstate", "get_state", "bit_generator")  # attributes of generators of Python, torch and NumPy
MOST_SEARCHED = 1000  # elements; longer containers are assumed to hold data, not generators


class CannotResumeError(Exception):
    """A training cannot resume from its checkpoint."""


class Checkpoint(NamedTuple):
    """A checkpoint: its run's identity, progress and state."""

    identity: str
    versions: dict[str, str]  # of gradlab, torch and Python: rows depend on them
    step: int
    seconds: float  # training time so far
    rows_sha256: str  # of the log so far
    state: dict[str, Any]
    evaluations_sha256: str = ""  # of the evaluations of earlier steps; "" if the run is not evaluated

    def to_bytes(self) -> bytes:
        """Return the content of the checkpoint file."""
        import torch

        content = io.BytesIO()
        torch.save(self._asdict(), content)
        return content.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Checkpoint:
        """Read a checkpoint file. Only tensors and plain values are accepted, so no code in it is executed.

        Raises:
            CannotResumeError: the file is not a checkpoint of this version of gradlab.
        """
        import torch

        try:
            found = cls(**torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
        except (MemoryError, OSError):  # the checkpoint itself may be fine
            raise
        except Exception as error:  # torch raises many types
            raise CannotResumeError(f"it is not a checkpoint: {shortened(error, 120)}") from None
        kinds = zip(found, (str, dict, int, float, str, dict, str), strict=True)
        if (
            not all(type(value) is kind for value, kind in kinds)
            or found.step <= 0
            or not 0 <= found.seconds < math.inf
        ):
            raise CannotResumeError("it is not a checkpoint: a field has the wrong type or value")
        return found


class Generators:
    """The random generators of a training: the global ones of Python, NumPy and torch, and those of the user.

    Attributes:
        own: the generators of the task and of the optimizer.
        begin: the states of all generators at the start of the current pass over the batches.
    """

    def __init__(self, task: Task, *more: object) -> None:
        """Find the generators of the task's batches, model and loss, and of more objects, such as the optimizer."""
        self.own = list(_own_generators([task.batches, task.model, task.loss, *more]))
        self.begin: dict[str, Any] = {}

    def now(self) -> dict[str, Any]:
        """Return the states of all generators."""
        return global_states() | {"own": [_state_of(each) for each in self.own]}

    def set(self, state: Mapping[str, Any]) -> None:
        """Restore the states that `now` returned, in this process or another."""
        if len(state["own"]) != len(self.own):
            raise CannotResumeError(f"the task had {len(state['own'])} generators and has {len(self.own)} now")
        set_global_states(state)
        for generator, each in zip(self.own, state["own"], strict=True):
            _set_state(generator, each)


class RewindableBatches:
    """Batches that save the states of the generators at the start of a pass, so the pass can be drawn again."""

    def __init__(self, batches: Iterable[Any], generators: Generators) -> None:
        self.batches, self.generators = batches, generators

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]  # raises TypeError without a length, as intended

    def __iter__(self) -> Iterator[Any]:
        self.generators.begin = self.generators.now()
        return iter(self.batches)


def rewindable(task: Task, generators: Generators) -> Task:
    """Return the task with batches that can be drawn again; a plain list needs no change."""
    is_plain = type(task.batches) in (list, tuple)
    return task if is_plain else replace(task, batches=RewindableBatches(task.batches, generators))


class TrainingState:
    """All parts of a training that have a state.

    Attributes:
        task: the given task, with batches that can be drawn again; train this one.
        optimizer: the given optimizer.
        scheduler: the given schedule.
        cursor: the position; pass it to the training loop.
        generators: the task's own and the global generators.
    """

    def __init__(self, task: Task, optimizer: Optimizer, scheduler: Scheduler | None) -> None:
        self.generators = Generators(task, optimizer)
        self.task = rewindable(task, self.generators)
        self.optimizer, self.scheduler, self.cursor = optimizer, scheduler, Cursor()

    def snapshot(self) -> dict[str, Any]:
        """Return the state after the last row, as tensors and plain values."""
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
        """Restore what `snapshot` returned, in a training that was just built.

        The generators return to the start of the current pass. The training loop then draws its earlier batches again
        and calls `cursor.on_redrawn`.

        Raises:
            CannotResumeError: the task has changed. The training loop raises it too, if the batches differ.
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
        model, cursor = self.task.model, self.cursor
        model.load_state_dict(state["model"])
        for name, buffer in _hidden_buffers(model).items():
            buffer.copy_(state["buffers"][name])
        for parameter, grad in zip(model.parameters(), state["grad"], strict=True):
            parameter.grad = None if grad is None else grad.to(parameter.device)
        if state["optimizer"] is not None:
            load_optimizer(state["optimizer"], self.optimizer)
        if state["scheduler"] is not None:
            load_scheduler(state["scheduler"], self.scheduler)
        cursor.load_state_dict(state)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        cursor.window.kept = _on_devices(cursor.window.kept, trained)
        cursor.fresh = _on_devices(cursor.fresh, trained)


def _on_devices(gradients: list[Tensor | None], parameters: list[nn.Parameter]) -> list[Tensor | None]:
    """Return the gradients on the devices of their parameters; an empty list stays empty."""
    pairs = zip(gradients, parameters, strict=bool(gradients))
    return [None if gradient is None else gradient.to(parameter.device) for gradient, parameter in pairs]


def _check_same_model(state: Mapping[str, Any], model: nn.Module) -> None:
    """Raise CannotResumeError unless the model has the saved weights and buffers, by name, shape and type."""
    for found, saved in ((model.state_dict(), state["model"]), (_hidden_buffers(model), state["buffers"])):
        if _shapes(found) != _shapes(saved):
            raise CannotResumeError("the model has other weights or buffers now")
    if len(list(model.parameters())) != len(state["grad"]):
        raise CannotResumeError("the model has other parameters now")


def _shapes(tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {name: (getattr(each, "shape", None), getattr(each, "dtype", None)) for name, each in tensors.items()}


def load_optimizer(saved: Mapping[str, Any], optimizer: Any) -> None:
    """Load an optimizer's state with its original types: torch's method converts all to the parameters' type."""
    optimizer.load_state_dict(saved)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for nth, values in saved["state"].items():
        if not isinstance(nth, int):  # of the whole optimizer
            continue
        loaded = optimizer.state[parameters[nth]]
        for name, value in values.items():
            if hasattr(value, "dtype") and value.dtype != loaded[name].dtype:
                loaded[name] = value.to(loaded[name].device)


def load_scheduler(saved: Mapping[str, Any], scheduler: Any) -> None:
    """Load a schedule's state."""
    scheduler.load_state_dict(saved)
    if (optimizer := getattr(scheduler, "optimizer", None)) is not None:
        optimizer._opt_called = True  # noqa: SLF001 - torch's; it warns if a schedule steps before its optimizer


def state_dict_of(thing: object) -> Any:
    """Return the state of an optimizer or a schedule; None if it has none."""
    return thing.state_dict() if hasattr(thing, "state_dict") else None


def _hidden_buffers(model: nn.Module) -> dict[str, Any]:
    """Return the buffers that are not in the model's state_dict."""
    saved = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name not in saved}


def _own_generators(roots: list[object]) -> Iterator[Any]:
    """Yield the generators that are reachable from these objects, always in the same order."""
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
            continue  # has no state
        if isinstance(thing, kinds):
            yield thing
        else:
            waiting += reversed(list(_contents_of(thing)))


def _contents_of(thing: object) -> Iterator[object]:
    """Yield an object's elements and attributes; of a function: closure, defaults and the generators it names."""
    if isinstance(thing, Mapping | list | tuple | set) and len(thing) < MOST_SEARCHED:
        yield from thing.values() if isinstance(thing, Mapping) else thing
    if isinstance(thing, FunctionType):
        yield from (cell.cell_contents for cell in thing.__closure__ or () if _is_filled(cell))
        yield from thing.__defaults__ or ()
        named = (each for _, each in variables_of(thing))  # also by functions within it
        yield from (each for each in named if any(hasattr(each, name) for name in STATES))
    elif isinstance(thing, MethodType):
        yield from (thing.__self__, thing.__func__)
    elif isinstance(thing, partial):
        yield from (thing.func, thing.args, thing.keywords)
    elif hasattr(thing, "__dict__") and is_of_user(type(thing)):
        yield from _contents_of_class(type(thing))
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    yield from (getattr(thing, name) for name in slots if name != "__weakref__" and hasattr(thing, name))
    yield from getattr(thing, "__dict__", {}).values()


def _contents_of_class(kind: type) -> Iterator[object]:
    """Yield the methods and attributes of a user's class, and of the user's classes that it extends."""
    for each in kind.__mro__:
        if is_of_user(each):
            for value in vars(each).values():
                yield value.fget if isinstance(value, property) else getattr(value, "__func__", value)


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a variable without a value yet
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
    """Return generator states with NumPy arrays as lists: checkpoints hold only tensors and plain values."""
    if isinstance(state, dict):
        return {key: to_plain_values(each) for key, each in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(map(to_plain_values, state))
    return state.tolist() if type(state).__module__ == "numpy" else state
