"""Gradient accumulation: equality with the large batch, division, short windows, sequences in chunks, clipping."""

from __future__ import annotations

import math
import weakref
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from gradlab import modes, optimizers
from gradlab.tasks import Task
from gradlab.verify.claim import FAILS, Claim, Measurement
from gradlab.verify.training import (
    TrainedModel,
    as_vector,
    copy_grads,
    copy_weights,
    max_difference,
    relative_error,
    total_norm,
    train,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from gradlab.modes import Mode

ROUNDING = 1e-12  # float64, a few hundred operations on numbers near 1
ROWS = 96


def _regression(sizes: Sequence[int], *, normalised: bool = False, counted: bool = False) -> Task:
    """Return a float64 regression whose rows, in order, are cut into batches of these sizes.

    The loss is the mean over a batch; if `counted`, it is the pair of sum and number of rows.
    """
    import torch
    from torch import nn

    torch.manual_seed(0)
    x, y = torch.randn(ROWS, 6, dtype=torch.float64), torch.randn(ROWS, 1, dtype=torch.float64)
    between = nn.BatchNorm1d(8) if normalised else nn.Tanh()
    model = nn.Sequential(nn.Linear(6, 8), between, nn.Linear(8, 1)).double()
    ends = list(accumulate(sizes))
    batches = [(x[end - size : end], y[end - size : end]) for size, end in zip(sizes, ends, strict=True)]
    if not counted:
        return Task.supervised(model, batches, nn.MSELoss())
    return Task(model, batches, lambda model, batch: ((model(batch[0]) - batch[1]).square().sum(), len(batch[0])))


def _train_epochs(sizes: Sequence[int], mode: Mode, epochs: int = 5, *, normalised: bool = False) -> TrainedModel:
    return train(_regression(sizes, normalised=normalised), mode, steps=epochs * len(sizes), lr=0.05)


def _movement(sizes: Sequence[int], mode: Mode, steps: int | None = None, *, counted: bool = False) -> Tensor:
    """Return how far training moves the weights, by default in the first update."""
    task = _regression(sizes, counted=counted)
    start = as_vector(task.model.parameters())
    return as_vector(train(task, mode, steps=steps or mode.every, lr=0.05).weights) - start


def _equals_large() -> Measurement:
    large, micro = [32] * 3, [8] * 12
    whole = _train_epochs(large, modes.zero_grad())
    divided = _train_epochs(micro, modes.accumulate(4)).distance(whole)
    undivided = _train_epochs(micro, modes.accumulate(4, mean=False)).distance(whole)
    factor = float(
        _movement(micro, modes.accumulate(4, mean=False)).norm() / _movement(large, modes.zero_grad()).norm()
    )
    normalised_whole = _train_epochs(large, modes.zero_grad(), normalised=True)
    normalised = _train_epochs(micro, modes.accumulate(4), normalised=True).distance(normalised_whole)
    return Measurement(
        {
            "each loss is divided by N and all micro-batches have one size": divided < ROUNDING,
            "the losses are not divided (N times the gradient)": undivided < ROUNDING,
            "the model has BatchNorm (it normalizes each micro-batch)": normalised < ROUNDING,
        },
        {
            "divided: weight difference": divided,
            "not divided: weight difference": undivided,
            "not divided, N = 4: length of the first step / with the large batch": factor,
            "BatchNorm: weight difference": normalised,
        },
        {"without division the first step is N times as long": math.isclose(factor, 4, rel_tol=1e-9)},
    )


def _mean_of_means() -> Measurement:
    """Compare the first update of four micro-batches with that of all 32 rows, for each way to divide."""
    equal, unequal = [8] * 12, [26, 2, 2, 2] * 3
    whole = _movement([32] * 3, modes.zero_grad())

    def error(sizes: Sequence[int], mode: Mode, *, counted: bool) -> float:
        return relative_error(_movement(sizes, mode, 4, counted=counted), whole)

    alike = error(equal, modes.accumulate(4), counted=False)
    means = error(unequal, modes.accumulate(4, by_batch=True), counted=True)
    items = error(unequal, modes.accumulate(4), counted=True)
    return Measurement(
        {"": means < ROUNDING},
        {
            "sizes 8, 8, 8, 8: relative error of the mean of means": alike,
            "sizes 26, 2, 2, 2: relative error of the mean of means": means,
            "sizes 26, 2, 2, 2: relative error of the sums divided by the total count": items,
        },
        {
            "with equal sizes the mean of means is right": alike < ROUNDING,
            "sums divided by the total count are right": items < ROUNDING,
        },
    )


def _two_updates_divided_by_n(every: int) -> tuple[Tensor, Tensor]:
    """Return how far the two updates of an epoch of six batches move the weights, each loss divided by `every`."""
    import torch

    task = _regression([8] * 6)
    batches: list[Any] = list(task.batches)
    optimizer = torch.optim.SGD(task.model.parameters(), lr=0.05)
    seen = [as_vector(task.model.parameters())]
    for nth, batch in enumerate(batches, start=1):
        (task.loss(task.model, batch) / every).backward()
        if nth % every == 0 or nth == len(batches):
            optimizer.step()
            optimizer.zero_grad()
            seen.append(as_vector(task.model.parameters()))
    start, middle, end = seen
    return middle - start, end - middle


def _two_updates(sizes: Sequence[int], mode: Mode, first: int) -> tuple[Tensor, Tensor]:
    """Return how far the two updates of an epoch move the weights; the first update follows `first` batches."""
    middle, end = (_movement(sizes, mode, steps) for steps in (first, len(sizes)))
    return middle, end - middle


def _last_window() -> Measurement:
    """Compare six batches in windows of four with two large batches: two updates each."""
    whole = _two_updates([32, 16], modes.zero_grad(), 1)
    by_hand, ours = _two_updates_divided_by_n(4), _two_updates([8] * 6, modes.accumulate(4), 4)

    def off(moves: tuple[Tensor, Tensor], nth: int) -> float:
        return relative_error(moves[nth], whole[nth])

    return Measurement(
        {"": off(by_hand, 1) < ROUNDING},
        {
            "divided by 4, window of 4 batches: relative error": off(by_hand, 0),
            "divided by 4, last window of 2 batches: relative error": off(by_hand, 1),
            "divided by 4, last window of 2 batches: update length / correct length": (
                float(by_hand[1].norm() / whole[1].norm())
            ),
            "gradlab, last window of 2 batches: relative error": off(ours, 1),
        },
        {
            "dividing by N is right for a full window": off(by_hand, 0) < ROUNDING,
            "gradlab divides each window by its own length": max(off(ours, 0), off(ours, 1)) < ROUNDING,
        },
    )


# A sequence in chunks


class SavedTensorMemory:
    """The bytes that autograd saves for the backward pass: now and at the peak."""

    def __init__(self) -> None:
        self.now = self.peak = 0

    def pack(self, tensor: Tensor) -> Any:
        """Count a tensor until the graph frees it."""
        holder = _SavedTensor(tensor)
        self.now += tensor.nbytes
        self.peak = max(self.peak, self.now)
        weakref.finalize(holder, self._free, tensor.nbytes)
        return holder

    def _free(self, size: int) -> None:
        self.now -= size


class _SavedTensor:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def _rnn_gradient(*, chunks: int, each: bool, detached: bool = True) -> tuple[Tensor, int]:
    """Return the gradient of an RNN over a sequence of length 48, and the peak bytes of its graphs.

    Args:
        chunks: the number of chunks; the hidden state is passed from one to the next.
        each: call backward() after each chunk instead of once for the sum of all losses.
        detached: detach the hidden state between chunks.
    """
    import torch
    from torch import nn

    torch.manual_seed(0)
    rnn, head = nn.RNN(3, 8, batch_first=True).double(), nn.Linear(8, 1).double()
    x, y = torch.randn(5, 48, 3, dtype=torch.float64), torch.randn(5, 48, 1, dtype=torch.float64)
    saved, hidden = SavedTensorMemory(), None
    total: Any = torch.zeros((), dtype=torch.float64)
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda holder: holder.tensor):
        for inputs, targets in zip(x.chunk(chunks, 1), y.chunk(chunks, 1), strict=True):
            states, hidden = rnn(inputs, hidden)
            loss: Any = (head(states) - targets).square().sum()
            if each:
                loss.backward()
            else:
                total = total + loss
            if detached:
                hidden = hidden.detach()
            del states, loss
        if not each:
            total.backward()
    return as_vector(copy_grads(nn.ModuleList([rnn, head]))), saved.peak


def _in_chunks() -> Measurement:
    chunked, little = _rnn_gradient(chunks=4, each=True)
    summed, much = _rnn_gradient(chunks=4, each=False)
    uncut, _ = _rnn_gradient(chunks=4, each=False, detached=False)
    off = float((chunked - summed).abs().max() / summed.abs().max())
    short = relative_error(chunked, uncut)
    return Measurement(
        {
            "both detach the hidden state between chunks": off < ROUNDING,
            "the summed loss backpropagates through the whole sequence": short < ROUNDING,
        },
        {
            "both detached, 4 chunks: relative gradient difference": off,
            "summed loss through the whole sequence: relative gradient difference": short,
            "graph memory, one backward() for the summed loss, bytes": much,
            "graph memory, backward() after each of 4 chunks, bytes": little,
        },
        {"only one chunk's graph is in memory at a time": 4 * little < 1.1 * much},
    )


# Clipping


def _train_clipped(bound: float, *, each: bool) -> list[Tensor]:
    """Train ten windows of four batches, clipping .grad after each backward pass or once per window."""
    from torch.nn.utils import clip_grad_norm_

    task = _regression([8] * 12)
    if not each:
        return train(task, modes.accumulate(4), steps=40, lr=0.05, clip_norm=bound).weights
    optimizer = optimizers.build("SGD", task.model.parameters(), {"lr": 0.05})
    batches: list[Any] = list(task.batches)
    for step in range(40):
        (task.loss(task.model, batches[step % 12]) / 4).backward()
        clip_grad_norm_(task.model.parameters(), bound)
        if step % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()
    return copy_weights(task.model)


def _clipping() -> Measurement:
    loose, tight = 1e3, 0.1
    off = {
        bound: max_difference(_train_clipped(bound, each=True), _train_clipped(bound, each=False))
        for bound in (loose, tight)
    }
    start = copy_weights(_regression([8] * 12).model)
    moved = total_norm(a - b for a, b in zip(_train_clipped(tight, each=False), start, strict=True))
    return Measurement(
        {
            "no gradient exceeds the bound": off[loose] < ROUNDING,
            "some gradients exceed it (the first batches of a window count less)": off[tight] < ROUNDING,
        },
        {
            "bound 1000: weight difference": off[loose],
            "bound 0.1: weight difference": off[tight],
            "bound 0.1: weight movement": moved,
        },
    )


CLAIMS = (
    Claim(
        "accumulation-equals-the-large-batch",
        "Accumulating N micro-batches equals one large batch.",
        "holds when each loss is divided by N and all micro-batches have one size; "
        "not when the losses are not divided (N times the gradient), "
        "or the model has BatchNorm (it normalizes each micro-batch)",
        _equals_large,
    ),
    Claim(
        "mean-of-means",
        "With micro-batches of different sizes, the mean of their mean losses equals the mean over all items.",
        FAILS,
        _mean_of_means,
    ),
    Claim(
        "a-last-short-window",
        "Dividing by N is also right for a last window of fewer than N batches.",
        FAILS,
        _last_window,
    ),
    Claim(
        "truncated-bptt",
        "backward() after each chunk of a sequence gives the gradient of the summed loss, in the memory of one chunk.",
        "holds when both detach the hidden state between chunks; "
        "not when the summed loss backpropagates through the whole sequence",
        _in_chunks,
    ),
    Claim(
        "clip-each-micro-batch",
        "Clipping after each backward pass of a window equals clipping once before the step.",
        "holds when no gradient exceeds the bound; "
        "not when some gradients exceed it (the first batches of a window count less)",
        _clipping,
    ),
)
