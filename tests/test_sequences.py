"""Tasks on sequences: one cut into chunks, whose gradients add up, and many of unequal length."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from gradlab import modes, tasks
from gradlab.engines import loop as training
from gradlab.errors import TaskError
from gradlab.tasks import Task
from gradlab.tasks.hashing import hash_of


def built(name: str, seed: int = 3, **options: object) -> Task:
    return tasks.build(tasks.find(name), seed, options)


# One sequence in chunks


def test_the_chunks_of_echo_are_one_sequence_and_its_targets_the_same_some_steps_later() -> None:
    batches = list(built("echo", length=11, chunk=4, lag=2).batches)
    assert [(nth, len(x)) for nth, x, _ in batches] == [(0, 4), (1, 4), (2, 3)]
    x, y = (torch.cat([batch[part] for batch in batches]) for part in (1, 2))
    assert set(x.flatten().tolist()) == {-1.0, 1.0}
    assert y.tolist() == [[0.0], [0.0], *x[:-2].tolist()]


def unrolled(task: Task, cut: bool) -> Any:
    """Return the loss of the whole sequence, its RNN written out; where it is cut, the state is detached."""
    model: Any = task.model
    rnn = model["rnn"]
    total = torch.zeros((), dtype=torch.float64)
    h = torch.zeros(rnn.hidden_size, dtype=torch.float64)
    for _, x, y in task.batches:
        h = h.detach() if cut else h
        for inputs, target in zip(x, y, strict=True):
            h = torch.tanh(rnn.weight_ih_l0 @ inputs + rnn.bias_ih_l0 + rnn.weight_hh_l0 @ h + rnn.bias_hh_l0)
            total = total + ((model["out"](h) - target) ** 2).sum()
    return total


def doubled(**options: Any) -> Task:
    task = built("echo", **options)
    return Task(task.model.double(), [(nth, x.double(), y.double()) for nth, x, y in task.batches], task.loss)


def gradient(task: Task) -> Tensor:
    return torch.cat([each.grad.flatten() for each in task.model.parameters() if each.grad is not None])


class Recording:
    """An optimizer that moves nothing and notes the gradient of each update."""

    def __init__(self, task: Task) -> None:
        self.task, self.seen = task, list[Tensor]()

    def step(self) -> None:
        self.seen.append(gradient(self.task).clone())

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: ARG002 - as an optimizer's
        self.task.model.zero_grad()


def test_the_gradient_of_the_summed_loss_is_the_sum_of_the_gradients_of_the_chunks() -> None:
    task = doubled(length=50, chunk=7)
    unrolled(task, cut=True).backward()
    whole = gradient(task).clone()
    task.model.zero_grad()
    recording = Recording(task)
    list(training.train(task, modes.parse("accumulate:8:sum"), recording, epochs=1))
    (accumulated,) = recording.seen
    assert torch.allclose(accumulated, whole, rtol=0, atol=1e-12 * whole.norm().item())  # float64
    each = Recording(task)
    list(training.train(task, modes.parse("zero_grad"), each, epochs=1))
    assert torch.allclose(sum(each.seen, torch.zeros_like(whole)), whole, rtol=0, atol=1e-12 * whole.norm().item())


def test_the_gradient_through_the_cuts_is_another() -> None:
    task = doubled(length=50, chunk=7)
    found = []
    for cut in (True, False):
        task.model.zero_grad()
        unrolled(task, cut=cut).backward()
        found.append(gradient(task).clone())
    assert (found[0] - found[1]).norm().item() > 1e-3 * found[1].norm().item()


def test_the_state_begins_anew_with_the_first_chunk() -> None:
    task = built("echo", length=12, chunk=4)
    one, other = ([task.loss(task.model, batch).item() for batch in task.batches] for _ in range(2))
    assert one == other


def test_the_state_goes_on_from_chunk_to_chunk() -> None:
    task = built("echo", length=12, chunk=4)
    first, second, _ = task.batches
    task.loss(task.model, first)
    after_first = task.loss(task.model, second).item()
    assert task.loss(task.model, (0, *second[1:])).item() != after_first


# Sequences of unequal length


def test_half_of_the_sequences_are_short_and_count_down_and_half_are_long_and_count_up() -> None:
    sequences = list(built("mixed_lengths", sequences=10, short=3, long=9, slips=0.0).batches)
    assert sorted(len(each) for each in sequences) == [4] * 5 + [10] * 5
    for each in sequences:
        strides = {(after - before) % 8 for before, after in pairwise(each.tolist())}
        assert strides == ({1} if len(each) == 10 else {7})


def test_a_share_of_the_tokens_is_drawn_anew() -> None:
    sequences = list(built("mixed_lengths", sequences=100, short=100, long=100, slips=0.5).batches)
    strides = [(after - before) % 8 for each in sequences for before, after in pairwise(each.tolist())]
    kept = sum(stride in (1, 7) for stride in strides) / len(strides)
    # One half is kept, and of the other one in four falls upon ±1; 10,000 draws: five standard errors of 0.005.
    assert kept == pytest.approx(0.5 + 0.5 * 0.25, abs=0.025)


def test_a_pass_holds_every_sequence_in_a_new_order() -> None:
    task = built("mixed_lengths", sequences=12)
    one, other = (list(task.batches) for _ in range(2))
    assert sorted(map(hash_of, one)) == sorted(map(hash_of, other))
    assert hash_of(one) != hash_of(other)


def test_one_seed_gives_the_same_table_and_the_same_sequences_in_the_same_orders() -> None:
    def passes(seed: int) -> str:
        task = built("mixed_lengths", seed)
        return hash_of([task.model.state_dict(), list(task.batches), list(task.batches)])

    one = passes(5)
    torch.rand(3)  # whatever was drawn in between
    assert (passes(5), passes(6) != one) == (one, True)


def test_the_loss_is_the_summed_cross_entropy_and_the_number_of_transitions() -> None:
    task = built("mixed_lengths")
    tokens = next(iter(task.batches))
    logits = next(task.model.parameters())
    total, count = task.loss(task.model, tokens)
    by_hand = -sum(torch.log_softmax(logits[before], 0)[after] for before, after in pairwise(tokens.tolist()))
    assert count == len(tokens) - 1
    assert torch.allclose(total, torch.as_tensor(by_hand), rtol=1e-5)  # float32, in another order


@pytest.mark.parametrize(
    ("name", "option"), [("echo", "length"), ("echo", "chunk"), ("mixed_lengths", "short"), ("heads_in_turn", "heads")]
)
def test_a_size_below_one_is_refused(name: str, option: str) -> None:
    with pytest.raises(TaskError, match=f"option {option} must be at least 1, got 0"):
        built(name, **{option: 0})
