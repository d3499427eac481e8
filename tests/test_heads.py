"""Heads in turn: what a parameter does in the steps that do not use it, under None and under zeros."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gradlab import modes, tasks
from gradlab.engines import loop as training
from gradlab.optimizers import build

if TYPE_CHECKING:
    from torch import Tensor

    from gradlab.tasks import Task


def heads_in_turn(**options: object) -> Task:
    return tasks.build(tasks.find("heads_in_turn"), 3, options)


def head_of(task: Task, nth: int) -> Tensor:
    weight: Tensor = task.model.get_parameter(f"heads.{nth}.weight")
    return weight


def test_an_epoch_is_rounds_of_one_batch_a_head_in_turn() -> None:
    task = heads_in_turn(heads=3, inputs=2, batch_size=5, rounds=4)
    batches = list(task.batches)
    assert [head for head, _, _ in batches] == [0, 1, 2] * 4
    assert {(tuple(x.shape), tuple(y.shape)) for _, x, y in batches} == {((5, 2), (5, 1))}
    assert all(torch.equal(batches[nth][1], batches[nth + 3][1]) for nth in range(9))


def test_a_step_gives_a_gradient_to_its_head_and_none_to_the_others() -> None:
    task = heads_in_turn(heads=3)
    batches = list(task.batches)
    task.loss(task.model, batches[1]).backward()
    assert [head_of(task, nth).grad is None for nth in range(3)] == [True, False, True]


def test_without_noise_the_targets_of_a_head_are_linear_in_its_inputs() -> None:
    one_round = list(heads_in_turn(heads=3, inputs=4, noise=0.0).batches)[:3]
    assert [head for head, _, _ in one_round] == [0, 1, 2]
    for _, x, y in one_round:
        solution = torch.linalg.lstsq(x.double(), y.double()).solution
        assert (x.double() @ solution - y.double()).abs().max().item() < 1e-5  # what float32 rounds off


def trajectory(word: str, momentum: float, weight_decay: float) -> list[Tensor]:
    """Return the weight of head 0 after each of four steps, of which the first alone uses it."""
    task = heads_in_turn(heads=4, rounds=1)
    optimizer = build("SGD", task.model.parameters(), {"lr": 0.1, "momentum": momentum, "weight_decay": weight_decay})
    return [head_of(task, 0).detach().clone() for _ in training.train(task, modes.parse(word), optimizer, epochs=1)]


def test_cleared_to_none_a_resting_head_stays_where_it_is() -> None:
    first, *rest = trajectory("zero_grad", momentum=0.5, weight_decay=0.25)
    assert [torch.equal(first, each) for each in rest] == [True] * 3


def test_cleared_to_zeros_a_head_that_has_not_been_used_yet_still_has_none() -> None:
    task = heads_in_turn(heads=4, rounds=1)
    optimizer = build("SGD", task.model.parameters(), {"lr": 0.1, "weight_decay": 0.25})
    start = head_of(task, 3).detach().clone()
    rows = training.train(task, modes.parse("zero_grad:fill"), optimizer, epochs=1)
    next(rows)
    assert torch.equal(head_of(task, 3), start)


def test_cleared_to_zeros_weight_decay_shrinks_a_resting_head_at_each_step() -> None:
    first, *rest = trajectory("zero_grad:fill", momentum=0.0, weight_decay=0.25)
    # w ← w − lr·weight_decay·w; float32 rounds at 2⁻²⁴ of the weight a step.
    expected = [first * (1 - 0.1 * 0.25) ** nth for nth in (1, 2, 3)]
    close = [torch.allclose(each, want, rtol=1e-6, atol=0) for each, want in zip(rest, expected, strict=True)]
    assert close == [True] * 3


def test_cleared_to_zeros_momentum_carries_a_resting_head_on() -> None:
    start = head_of(heads_in_turn(heads=4, rounds=1), 0).detach()
    first, *rest = trajectory("zero_grad:fill", momentum=0.5, weight_decay=0.0)
    # After the step v come v/2, v/4, v/8; float32 rounds at 2⁻²⁴ of the weight, below 1, a step.
    v = first - start
    expected = [first + v * share for share in (0.5, 0.75, 0.875)]
    close = [torch.allclose(each, want, rtol=0, atol=1e-6) for each, want in zip(rest, expected, strict=True)]
    assert close == [True] * 3
