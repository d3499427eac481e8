"""Batches of several tasks, drawn in step, each as if its task were alone; and put together where they are alike."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.engines.loop import length_of, windows
from gradlab.engines.resuming import Generators, rewindable
from gradlab.tasks import draw_for_themselves, mapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from gradlab.tasks import Task

BLOCK = 64  # batches drawn of one task before the next has its turn: putting generators back and forth takes a moment
BLOCK_BYTES = 2**22  # of one task, beyond which fewer are drawn ahead


class CannotStackError(Exception):
    """What was met in a training that cannot be done for many runs at once; the plain loop can."""


class World:
    """A task that was just built, with the generators, global ones included, as they stand for it alone.

    Attributes:
        task: if it is to be resumed, its generators are noted when a pass over its batches begins.
        generators: those that it draws from.
        state: of these, when its batches were drawn last.
        shares: whether it may draw from global ones, which are put back and forth for it then.
    """

    def __init__(self, task: Task, *, resumable: bool = True) -> None:
        self.generators = Generators(task)
        self.task = rewindable(task, self.generators) if resumable else task
        self.shares = not draw_for_themselves(task.batches)
        self.state = self.generators.now()

    def drawn(self, batches: Iterator[Any], most: int) -> list[Any]:
        """Return the next batches of a pass, drawn with the generators of this task."""
        if not self.shares:
            return list(islice(batches, most))
        self.generators.set(self.state)
        block = list(islice(batches, most))
        self.state = self.generators.now()
        return block


def in_step(worlds: Sequence[World], every: int, left: int | None) -> Iterator[tuple[list[Any], tuple[int, bool]]]:
    """Yield the batches of a pass, one of each task, with the size of their window and whether they end it.

    Raises:
        CannotStackError: the tasks have not as many batches each.
    """
    passes = [windows(_Late(world.task), every, length_of(world.task.batches), left) for world in worlds]
    if len(worlds) == 1:
        yield from (([batch], window) for batch, window in passes[0])
        return
    begun = [iter(each) for each in passes]
    most = 1
    while True:
        blocks = [world.drawn(batches, most) for world, batches in zip(worlds, begun, strict=True)]
        if len({tuple(window for _, window in block) for block in blocks}) > 1:
            raise CannotStackError("its seeds have not as many batches an epoch each")
        if not blocks[0]:
            return
        for each in zip(*blocks, strict=True):
            yield [batch for batch, _ in each], each[0][1]
        most = max(1, min(BLOCK, BLOCK_BYTES // (_bytes(blocks[0][0][0]) or 1)))


class _Late:
    """The batches of a task, a pass over which begins when the first is drawn: with the generators of the task."""

    def __init__(self, task: Task) -> None:
        self.batches = task.batches

    def __iter__(self) -> Iterator[Any]:
        yield from self.batches


class Parts(NamedTuple):
    """Batches put together: tensors of shape (tasks, …) for what differs, and the form that they stand in."""

    stacked: list[Tensor]
    form: Any  # a batch, the tensors of which are replaced in turn

    def batch(self, tensors: Sequence[Tensor]) -> Any:
        """Return the batch that has these tensors."""
        import torch

        turn = iter(tensors)
        return mapped(self.form, lambda part: next(turn) if isinstance(part, torch.Tensor) else part)


def together(batches: Sequence[Any]) -> Parts | None:
    """Return the batches put together, or None where they are not alike: of other shapes, or other values beside."""
    import torch

    pieces = [_pieces(batch) for batch in batches]
    alike = {tuple((each.shape, each.dtype) for each in tensors) for tensors, _ in pieces}
    if len(alike) > 1 or any(others != pieces[0][1] for _, others in pieces):
        return None
    return Parts([torch.stack(each) for each in zip(*(tensors for tensors, _ in pieces), strict=True)], batches[0])


def others_of(batch: Any) -> list[Any]:
    """Return what is in a batch beside tensors."""
    return _pieces(batch)[1]


def _bytes(batch: Any) -> int:
    """Return what the tensors of a batch take."""
    return sum(each.numel() * each.element_size() for each in _pieces(batch)[0])


def _pieces(batch: Any) -> tuple[list[Tensor], list[Any]]:
    """Return the tensors of a batch, and what else is in it."""
    import torch

    tensors: list[Tensor] = []
    others: list[Any] = []
    mapped(batch, lambda part: tensors.append(part) if isinstance(part, torch.Tensor) else others.append(part))
    return tensors, others
