"""The same start for every mode: what is compared is refused unless seed and options alone decide it."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.errors import TaskError, UnfairTaskError
from gradlab.tasks.loading import TaskName, build
from gradlab.tasks.task import Minibatches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gradlab.tasks.task import Task


HASHED = 32  # batches: enough to find one that is not drawn from the seed, few enough not to wait for


class Start(NamedTuple):
    """What a run starts from: SHA-256 of the initial weights, and of each of the first 32 batches of an epoch."""

    weights: str
    batches: tuple[str, ...]


def start_of(task: TaskName, seed: int, options: Mapping[str, object]) -> Start:
    """Return the start that all runs of this task and seed have, found by building the task twice.

    Raises:
        UnfairTaskError: the two differ, so that modes could not be compared.
    """
    one, other = _start(task, seed, options), _start(task, seed, options)
    _check_same_weights(task, seed, one.weights, other.weights)
    if one.batches != other.batches:
        raise UnfairTaskError(_other_batches(task, seed))
    return one


def watched(task: TaskName, seed: int, built: Task, start: Start) -> Task:
    """Return the task as built for a run, its batches checked as training draws them for the first time.

    Raises:
        UnfairTaskError: it has other weights than all runs of this task and seed start from; or, once they are drawn,
            other batches.
    """
    _check_same_weights(task, seed, hash_of(built.model.state_dict()), start.weights)
    return replace(built, batches=_Watched(built.batches, start.batches, _other_batches(task, seed)))


def draw_for_themselves(batches: Iterable[Any]) -> bool:
    """Say whether batches are known to draw from no global generator: where they lie in a list, or are ours."""
    import torch

    inner = batches.batches if isinstance(batches, _Watched) else batches
    if isinstance(inner, Minibatches):
        return inner.generator is not torch.default_generator
    return type(inner) in (list, tuple)


class _Watched:
    """Batches that are held against the expected hashes at their first pass."""

    def __init__(self, batches: Iterable[Any], expected: tuple[str, ...], fault: str) -> None:
        self.batches, self.expected, self.fault = batches, expected, fault

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]  # a TypeError where there is no length is what is wanted

    def __iter__(self) -> Iterator[Any]:
        expected, self.expected = self.expected, ()
        drawn = iter(self.batches)
        return chain(map(self._check, expected, drawn), drawn) if expected else drawn

    def _check(self, expected: str, batch: Any) -> Any:
        if hash_of(batch) != expected:
            raise UnfairTaskError(self.fault)
        return batch


def hash_of(value: object) -> str:
    """Return the SHA-256 of tensors, arrays and plain values, nested in any way: type, shape and content."""
    digest = hashlib.sha256()
    _feed(digest, value)
    return digest.hexdigest()


def _start(task: TaskName, seed: int, options: Mapping[str, object]) -> Start:
    built = build(task, seed, options)
    weights = hash_of(built.model.state_dict())
    hashes = tuple(hash_of(batch) for batch in islice(built.batches, HASHED))
    if not hashes:
        raise TaskError(f"task '{task.name}' has no batch")
    return Start(weights, hashes)


def _check_same_weights(task: TaskName, seed: int, one: str, other: str) -> None:
    if one != other:
        mend = "make the model inside the task's function"
        raise UnfairTaskError(_unfair(task, seed, "initial weights", mend))


def _other_batches(task: TaskName, seed: int) -> str:
    return _unfair(task, seed, "first batches", "shuffle with generator=torch.Generator().manual_seed(seed)")


def _unfair(task: TaskName, seed: int, what: str, mend: str) -> str:
    return (
        f"task '{task.name}' is not deterministic: two calls with seed {seed} give different {what}\n"
        f"modes are compared from one start, so draw everything from the seed: {mend}"
    )


def _feed(digest: hashlib._Hash, value: object, around: tuple[int, ...] = ()) -> None:
    """Feed the digest with type, shape and content of `value`, which stands inside the objects with ids `around`."""
    import torch

    digest.update(type(value).__name__.encode())
    if id(value) in around:
        return  # a circle
    inside = (*around, id(value))
    if isinstance(value, torch.Tensor):
        dense = value.detach() if value.layout == torch.strided else value.detach().to_dense()
        digest.update(f"{dense.dtype}{tuple(dense.shape)}".encode())
        digest.update(dense.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return
    if isinstance(value, Mapping):
        for key, each in value.items():
            _feed(digest, key, inside)
            _feed(digest, each, inside)
        digest.update(str(len(value)).encode())
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for each in value:
            _feed(digest, each, inside)
        digest.update(str(len(value)).encode())
    elif not _attributes(value) or isinstance(value, str | bytes):
        with suppress(pickle.PicklingError, TypeError, AttributeError):  # where nothing but the type can be compared
            digest.update(pickle.dumps(value))
    for name, each in _attributes(value).items():
        digest.update(name.encode())
        _feed(digest, each, inside)


def _attributes(value: object) -> dict[str, object]:
    """Return what an object of a user's class holds, in a `__dict__` or in slots; an array's content among it."""
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    held = {name: getattr(value, name) for name in slots if hasattr(value, name)} | dict(
        getattr(value, "__dict__", {})
    )
    if hasattr(value, "__array_interface__") and not isinstance(value, type):
        held["array"] = (value.tobytes(), value.shape, str(value.dtype))  # type: ignore[attr-defined]  # NumPy's
    return held
