"""The same start for every mode: what is compared is refused unless seed and options alone decide it."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from gradlab.errors import TaskError, UnfairTaskError
from gradlab.tasks.loading import TaskName, build

if TYPE_CHECKING:
    from gradlab.tasks.task import Task


class Start(NamedTuple):
    """What a run starts from: SHA-256 of the initial weights and of the first batch."""

    weights: str
    first_batch: str


def start_of(task: TaskName, seed: int, options: Mapping[str, object]) -> Start:
    """Return the start that all runs of this task and seed have, found by building the task twice.

    Raises:
        UnfairTaskError: the two differ, so that modes could not be compared.
    """
    one, other = _start(task, seed, options), _start(task, seed, options)
    _check_same_weights(task, seed, one.weights, other.weights)
    if one.first_batch != other.first_batch:
        mend = "shuffle with generator=torch.Generator().manual_seed(seed)"
        raise UnfairTaskError(_unfair(task, seed, "first batches", mend))
    return one


def check_weights(task: TaskName, seed: int, built: Task, start: Start) -> None:
    """Raise UnfairTaskError unless the task has the weights that all its runs of this seed start from."""
    _check_same_weights(task, seed, hash_of(built.model.state_dict()), start.weights)


def hash_of(value: object) -> str:
    """Return the SHA-256 of tensors, arrays and plain values, nested in any way: type, shape and content."""
    digest = hashlib.sha256()
    _feed(digest, value)
    return digest.hexdigest()


def _start(task: TaskName, seed: int, options: Mapping[str, object]) -> Start:
    built = build(task, seed, options)
    weights = hash_of(built.model.state_dict())
    for batch in built.batches:
        return Start(weights, hash_of(batch))
    raise TaskError(f"task '{task.name}' has no batch")


def _check_same_weights(task: TaskName, seed: int, one: str, other: str) -> None:
    if one != other:
        mend = "make the model inside the task's function"
        raise UnfairTaskError(_unfair(task, seed, "initial weights", mend))


def _unfair(task: TaskName, seed: int, what: str, mend: str) -> str:
    return (
        f"task '{task.name}' is not deterministic: two calls with seed {seed} give different {what}\n"
        f"modes are compared from one start, so draw everything from the seed: {mend}"
    )


def _feed(digest: hashlib._Hash, value: object) -> None:
    import torch

    digest.update(type(value).__name__.encode())
    if isinstance(value, torch.Tensor):
        dense = value.detach() if value.layout == torch.strided else value.detach().to_dense()
        digest.update(f"{dense.dtype}{tuple(dense.shape)}".encode())
        digest.update(dense.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, Mapping):
        digest.update(str(len(value)).encode())
        for key, each in value.items():
            digest.update(repr(key).encode())
            _feed(digest, each)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        digest.update(str(len(value)).encode())
        for each in value:
            _feed(digest, each)
    elif hasattr(value, "__dict__"):
        _feed(digest, vars(value))
    else:
        try:
            digest.update(pickle.dumps(value))
        except (pickle.PicklingError, TypeError, AttributeError):
            return  # nothing of it can be compared but its type
