"""The same start for every mode: what is compared is refused unless seed and options alone decide it."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.errors import TaskError, UnfairTaskError
from gradlab.tasks.hashing import hash_of
from gradlab.tasks.loading import TaskName, build
from gradlab.tasks.task import Minibatches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

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
    if one.weights != other.weights:
        raise _unfair(task, seed, *_WEIGHTS)
    if one.batches != other.batches:
        raise _unfair(task, seed, *_BATCHES)
    return one


def verified(task: TaskName, seed: int, built: Task, start: Start) -> Task:
    """Return the task as built for a run, its batches verified when training draws them for the first time.

    Raises:
        UnfairTaskError: it has other weights than all runs of this task and seed start from; or, once they are drawn,
            other batches.
    """
    if hash_of(built.model.state_dict()) != start.weights:
        raise _unfair(task, seed, *_WEIGHTS)
    return replace(built, batches=_VerifiedBatches(built.batches, start.batches, _unfair(task, seed, *_BATCHES)))


def uses_global_generators(batches: Iterable[Any]) -> bool:
    """Say whether batches may draw from a global generator: all but lists and our own minibatches may."""
    import torch

    inner = batches.batches if isinstance(batches, _VerifiedBatches) else batches
    if isinstance(inner, Minibatches):
        return inner.generator is torch.default_generator
    return type(inner) not in (list, tuple)


class _VerifiedBatches:
    """Batches that are compared with the expected hashes in their first pass."""

    def __init__(self, batches: Iterable[Any], expected: tuple[str, ...], error: UnfairTaskError) -> None:
        self.batches, self.expected, self.error = batches, expected, error

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]  # a TypeError where there is no length is what is wanted

    def __iter__(self) -> Iterator[Any]:
        expected, self.expected = self.expected, ()
        drawn = iter(self.batches)
        return chain(map(self._check, expected, drawn), drawn) if expected else drawn

    def _check(self, expected: str, batch: Any) -> Any:
        if hash_of(batch) != expected:
            raise self.error
        return batch


def _start(task: TaskName, seed: int, options: Mapping[str, object]) -> Start:
    built = build(task, seed, options)
    weights = hash_of(built.model.state_dict())
    hashes = tuple(hash_of(batch) for batch in islice(built.batches, HASHED))
    if not hashes:
        raise TaskError(f"task '{task.name}' has no batch")
    return Start(weights, hashes)


# What differs between two calls, and how to make it the same.
_WEIGHTS = ("initial weights", "make the model inside the task's function")
_BATCHES = ("first batches", "shuffle with generator=torch.Generator().manual_seed(seed)")


def _unfair(task: TaskName, seed: int, what: str, mend: str) -> UnfairTaskError:
    return UnfairTaskError(
        f"task '{task.name}' is not deterministic: two calls with seed {seed} give different {what}\n"
        f"modes are compared from one start, so draw everything from the seed: {mend}"
    )
