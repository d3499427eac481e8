"""Task and minibatches."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradlab.errors import TaskError
from gradlab.tasks import Minibatches, Task
from gradlab.tasks.hashing import hash_of

# Batches of two tensors


def minibatches(rows: int, size: int, seed: int = 0) -> Minibatches:
    data = torch.arange(float(rows))
    return Minibatches(data.unsqueeze(1), data * 10, size, torch.Generator().manual_seed(seed))


def test_a_pass_holds_every_row_once_with_its_target() -> None:
    batches = list(minibatches(10, 4))
    assert [len(inputs) for inputs, _ in batches] == [4, 4, 2]
    assert sorted(x for inputs, _ in batches for x in inputs[:, 0].tolist()) == list(range(10))
    assert all(torch.equal(inputs[:, 0] * 10, targets) for inputs, targets in batches)


def test_a_second_pass_holds_every_row_again_in_another_order() -> None:
    batches = minibatches(20, 4)
    one, other = ([x for inputs, _ in batches for x in inputs[:, 0].tolist()] for _ in range(2))
    assert sorted(one) == sorted(other) == list(range(20))
    assert one != other


@pytest.mark.parametrize(("rows", "size", "length"), [(10, 4, 3), (10, 5, 2), (10, 1, 10), (10, 99, 1), (1, 1, 1)])
def test_the_length_is_the_number_of_batches_of_a_pass(rows: int, size: int, length: int) -> None:
    batches = minibatches(rows, size)
    assert len(batches) == len(list(batches)) == length


def test_the_order_is_drawn_from_the_generator_alone() -> None:
    one = hash_of(list(minibatches(20, 4)))
    torch.manual_seed(99)
    assert hash_of(list(minibatches(20, 4))) == one
    assert hash_of(list(minibatches(20, 4, seed=1))) != one


@pytest.mark.parametrize("size", [0, -3])
def test_a_batch_of_no_row_is_refused(size: int) -> None:
    with pytest.raises(TaskError, match=f"batch_size must be at least 1, got {size}"):
        minibatches(10, size)


# Task


def test_supervised_compares_outputs_with_targets() -> None:
    model = nn.Linear(2, 1)
    x, y = torch.ones(3, 2), torch.zeros(3, 1)
    task = Task.supervised(model, [(x, y)], nn.L1Loss())
    assert task.model is model
    assert torch.equal(task.loss(model, (x, y)), (model(x) - y).abs().mean())


def test_supervised_takes_the_batches_of_a_data_loader() -> None:
    data = TensorDataset(torch.ones(5, 2), torch.zeros(5, 1))
    task = Task.supervised(nn.Linear(2, 1), DataLoader(data, batch_size=2), nn.MSELoss())
    assert [task.loss(task.model, batch).shape for batch in task.batches] == [(), (), ()]


@pytest.mark.parametrize(
    ("batch", "got", "instead"),
    [
        ({"input_ids": 1, "mask": 2, "labels": 3}, "a dict with the keys 'input_ids', 'mask', 'labels'",
         "criterion(model(batch['input_ids']), batch['labels'])"),
        ({"image": 1, "class": 2}, "a dict with the keys 'image', 'class'",
         "criterion(model(batch['image']), batch['class'])"),
        ({"x": 1}, "a dict with the keys 'x'", "criterion(model(batch[…]), batch[…])"),
        ((1, 2, 3), "a tuple of length 3", "criterion(model(…), …)"),
        (3, "an int", "criterion(model(…), …)"),
    ],
)  # fmt: skip
def test_batches_that_are_no_pairs_are_told_what_to_write(batch: Any, got: str, instead: str) -> None:
    task = Task.supervised(nn.Linear(1, 1), [batch], nn.MSELoss())
    with pytest.raises(TaskError) as raised:
        task.loss(task.model, batch)
    assert str(raised.value) == (
        f"Task.supervised needs batches (inputs, targets), got {got}\n"
        f"write: Task(model, batches, lambda model, batch: {instead})"
    )


def test_supervised_takes_pairs_of_any_kind() -> None:
    task = Task.supervised(nn.Identity(), [], lambda outputs, targets: outputs - targets)
    x, y = torch.ones(1), torch.zeros(1)
    for batch in ((x, y), [x, y], Pair(x, y), torch.stack([x, y])):
        assert task.loss(task.model, batch).item() == 1


Pair = namedtuple("Pair", ["x", "y"])  # noqa: PYI024 - as users write it


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        lambda x: [x, x],
        lambda x: (x, 1),
        lambda x: {"x": x, "deep": {"list": [x], "text": "kept"}},
        lambda x: Pair(x, [x]),
    ],
    ids=["tensor", "list", "tuple", "dict", "namedtuple"],
)
def test_model_and_nested_batches_move_to_another_device(wrap: Any) -> None:
    seen = []
    task = Task(nn.Linear(1, 1), [wrap(torch.ones(1))], lambda _model, batch: seen.append(batch)).to("meta")
    task.loss(task.model, next(iter(task.batches)))
    assert {each.device.type for each in task.model.parameters()} == {"meta"}
    assert repr(seen[0]) == repr(wrap(torch.ones(1, device="meta")))
    assert type(seen[0]) is type(wrap(torch.ones(1)))


def test_batches_of_metrics_move_to_another_device() -> None:
    seen = []
    metrics = {"metric": lambda _model, batch: seen.append(batch.device.type)}
    task = Task(nn.Linear(1, 1), [], lambda *_: None, validation=[torch.ones(1)], metrics=metrics).to("meta")
    task.metrics["metric"](task.model, torch.ones(1))
    assert seen == ["meta"]


def test_a_batch_of_a_type_that_moves_by_itself_is_asked_to() -> None:
    class Encoded(dict[str, Any]):
        def to(self, device: str) -> str:
            return f"{len(self)} on {device}"

    seen: list[str] = []
    task = Task(nn.Linear(1, 1), [], lambda _model, batch: seen.append(batch)).to("meta")
    task.loss(task.model, Encoded(a=1, b=2))
    assert seen == ["2 on meta"]


def test_on_the_cpu_a_task_stays_as_it_is() -> None:
    task = Task(nn.Linear(1, 1), [], lambda _model, _batch: None)
    assert task.to("cpu") is task
