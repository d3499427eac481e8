"""The same start for every mode: a task is refused unless seed and options determine its weights and batches."""

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


HASHED = 32  # batches: enough to detect random ones, few enough to be fast


class Start(NamedTuple):
    """The start of a run: SHA-256 of the initial weights, and of each of the first 32 batches of an epoch."""

    weights: str
    batches: tuple[str, ...]


def start_of(task: TaskName, seed: int, options: Mapping[str, object]) -> Start:
    """Return the common start of all runs of this task and seed, after building the task twice.

    Raises:
        UnfairTaskError: the two differ, so modes cannot be compared.
    """
    one, other = _start(task, seed, options), _start(task, seed, options)
    if one.weights != other.weights:
        raise _unfair(task, seed, *_WEIGHTS)
    if one.batches != other.batches:
        raise _unfair(task, seed, *_BATCHES)
    return one


def verified(task: TaskName, seed: int, built: Task, start: Start) -> Task:
    """Check the task's weights, and return the task with batches that are checked in their first pass.

    Raises:
        UnfairTaskError: the weights differ from `start`. Drawing batches that differ raises it too.
    """
    if hash_of(built.model.state_dict()) != start.weights:
        raise _unfair(task, seed, *_WEIGHTS)
    return replace(built, batches=_VerifiedBatches(built.batches, start.batches, _unfair(task, seed, *_BATCHES)))


def uses_global_generators(batches: Iterable[Any]) -> bool:
    """Return whether batches may draw from a global generator: all except lists and `Minibatches` may."""
    import torch

    inner = unverified(batches)
    if isinstance(inner, Minibatches):
        return inner.generator is torch.default_generator
    return type(inner) not in (list, tuple)


def unverified(batches: Iterable[Any]) -> Iterable[Any]:
    """Return the task's own batches, without the check of `verified`."""
    return batches.batches if isinstance(batches, _VerifiedBatches) else batches


class _VerifiedBatches:
    """Batches whose first pass is compared with the expected hashes."""

    def __init__(self, batches: Iterable[Any], expected: tuple[str, ...], error: UnfairTaskError) -> None:
        self.batches, self.expected, self.error = batches, expected, error

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]  # raises TypeError without a length, as intended

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


# The difference between two calls, and how to fix it.
_WEIGHTS = ("initial weights", "make the model inside the task's function")
_BATCHES = ("first batches", "shuffle with generator=torch.Generator().manual_seed(seed)")


def _unfair(task: TaskName, seed: int, difference: str, fix: str) -> UnfairTaskError:
    return UnfairTaskError(
        f"task '{task.name}' is not deterministic: two calls with seed {seed} give different {difference}\n"
        f"all modes must start alike, so draw everything from the seed: {fix}"
    )
