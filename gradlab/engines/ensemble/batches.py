"""Batches of several seeds: drawn with every seed's own random state, and stacked if their shapes agree."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.engines.accumulation import windows
from gradlab.engines.resuming import Generators, rewindable
from gradlab.tasks import map_batch, uses_global_generators

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from gradlab.tasks import Task

BLOCK = 64  # batches drawn per seed before switching to the next: switching generators takes time
BLOCK_BYTES = 2**22  # limit on these batches, per seed


class CannotStackError(Exception):
    """A training cannot be stacked; engine `loop` can train it."""


class SeedTask:
    """A newly built task of one seed, with the states of its generators, including the global ones.

    Attributes:
        task: the task; if resumable, it saves its generators at the start of each pass over its batches.
        original: the task as it was given.
        generators: the generators that it draws from.
        state: their states after its last batches were drawn.
        shares_generators: whether it may draw from global generators; if so, their states are switched for it.
    """

    def __init__(self, task: Task, *, resumable: bool = True) -> None:
        self.generators = Generators(task)
        self.original = task
        self.task = rewindable(task, self.generators) if resumable else task
        self.shares_generators = uses_global_generators(task.batches)
        self.state = self.generators.now()

    def draw(self, batches: Iterator[Any], most: int) -> list[Any]:
        """Return at most `most` next batches of a pass, drawn with this seed's generators."""
        if not self.shares_generators:
            return list(islice(batches, most))
        self.generators.set(self.state)
        block = list(islice(batches, most))
        self.state = self.generators.now()
        return block


def draw_together(
    seeds: Sequence[SeedTask], every: int, most: int | None, block: int = BLOCK
) -> Iterator[tuple[list[Any], tuple[int, bool]]]:
    """Yield the batches of an epoch, one per seed, with the size of their window and whether they are its last.

    With several seeds, up to `block` batches of each are drawn in advance.

    Raises:
        CannotStackError: the seeds have different numbers of batches.
    """
    passes = [windows(seed.task.batches, every, most) for seed in seeds]  # lazy: a pass starts with its first batch
    if len(seeds) == 1:
        yield from (([batch], window) for batch, window in passes[0])
        return
    ahead = 1
    while True:
        blocks = [seed.draw(batches, ahead) for seed, batches in zip(seeds, passes, strict=True)]
        if len({tuple(window for _, window in block) for block in blocks}) > 1:
            raise CannotStackError("its seeds differ in the number of batches per epoch")
        if not blocks[0]:
            return
        for each in zip(*blocks, strict=True):
            yield [batch for batch, _ in each], each[0][1]
        tensors, _ = split_batch(blocks[0][0][0])
        size = sum(each.numel() * each.element_size() for each in tensors)
        ahead = max(1, min(block, BLOCK_BYTES // (size or 1)))


class StackedBatches(NamedTuple):
    """Batches of all seeds: tensors of shape (seeds, …), and one batch as a template of the structure around them."""

    tensors: list[Tensor]
    template: Any

    def rebuild(self, tensors: Sequence[Tensor]) -> Any:
        """Return the template with its tensors replaced by these, in order."""
        import torch

        following = iter(tensors)
        return map_batch(self.template, lambda part: next(following) if isinstance(part, torch.Tensor) else part)


def stack_batches(batches: Sequence[Any]) -> StackedBatches | None:
    """Return the batches stacked, or None if their shapes, types or non-tensor parts differ."""
    import torch

    split = [split_batch(batch) for batch in batches]
    kinds = {tuple((each.shape, each.dtype) for each in tensors) for tensors, _ in split}
    if len(kinds) > 1 or any(others != split[0][1] for _, others in split):
        return None
    return StackedBatches([torch.stack(each) for each in zip(*(one for one, _ in split), strict=True)], batches[0])


def split_batch(batch: Any) -> tuple[list[Tensor], list[Any]]:
    """Return the tensors of a batch, and its other parts."""
    import torch

    tensors: list[Tensor] = []
    others: list[Any] = []
    map_batch(batch, lambda part: tensors.append(part) if isinstance(part, torch.Tensor) else others.append(part))
    return tensors, others
