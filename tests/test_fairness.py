"""The same start for every mode: what differs between two calls with one seed is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gradlab import tasks
from gradlab.errors import TaskError, UnfairTaskError
from gradlab.tasks import Task
from gradlab.tasks.hashing import hash_of
from tests.table import TASKS
from tests.test_loading import built, own, plain

each_task = pytest.mark.parametrize(("name", "options"), TASKS, ids=[name for name, _ in TASKS])


# The same start for every mode


ADVICE = "all modes must start alike, so draw everything from the seed: "


COUNTED = "COUNT = itertools.count()"


MODEL_ADVICE = "make the model inside the task's function"


BATCH_ADVICE = "shuffle with generator=torch.Generator().manual_seed(seed)"


@each_task
def test_a_start_is_the_weights_and_the_first_batch(name: str, options: dict[str, object]) -> None:
    start = tasks.start_of(tasks.find(name), 5, options)
    task = built(name, 5, **options)
    assert start.weights == hash_of(task.model.state_dict())
    assert start.batches[0] == hash_of(next(iter(task.batches)))
    tasks.verified(tasks.find(name), 5, task, start)


def test_weights_that_differ_between_calls_are_refused() -> None:
    fills = "lambda model: [nn.init.constant_(p, next(COUNT)) for p in model.parameters()]"
    name = own(
        f"model = nn.Linear(1, 1)\n({fills})(model)\nreturn Task(model, [torch.ones(1, 1)], None)", before=COUNTED
    )
    with pytest.raises(UnfairTaskError) as raised:
        tasks.start_of(name, 3, {})
    assert str(raised.value) == (
        "task 'mine.py:own' is not deterministic: two calls with seed 3 give different initial weights\n"
        + ADVICE
        + MODEL_ADVICE
    )


def test_a_first_batch_that_differs_between_calls_is_refused() -> None:
    name = plain(batches="[torch.full((1, 1), float(next(COUNT)))]", before=COUNTED)
    with pytest.raises(UnfairTaskError) as raised:
        tasks.start_of(name, 3, {})
    assert str(raised.value) == (
        "task 'mine.py:own' is not deterministic: two calls with seed 3 give different first batches\n"
        + ADVICE
        + BATCH_ADVICE
    )


def test_a_generator_that_outlives_the_call_is_refused() -> None:
    before = (
        "from torch.utils.data import DataLoader\n"
        "G = torch.Generator().manual_seed(0)\n"
        "LOADER = DataLoader(torch.arange(64.0).reshape(64, 1), 4, shuffle=True, generator=G)"
    )
    with pytest.raises(UnfairTaskError, match="different first batches"):
        tasks.start_of(plain(batches="LOADER", before=before), 3, {})


def test_batches_shuffled_by_torchs_seeded_generator_are_fair() -> None:
    loader = "torch.utils.data.DataLoader(torch.arange(64.0).reshape(64, 1), 4, shuffle=True)"
    name = plain(batches=loader)
    assert tasks.start_of(name, 3, {}) == tasks.start_of(name, 3, {})
    assert tasks.start_of(name, 3, {}).batches != tasks.start_of(name, 4, {}).batches


def test_a_trained_model_that_outlives_the_call_is_refused() -> None:
    name = plain(model="MODEL", before="MODEL = nn.Linear(1, 1)")
    with pytest.raises(UnfairTaskError, match=f"two calls share the parameter weight\n.*{MODEL_ADVICE}"):
        tasks.start_of(name, 3, {})


def test_a_frozen_part_may_outlive_the_call() -> None:
    before = "BODY = nn.Linear(1, 1).requires_grad_(False)"
    tasks.start_of(plain(model="nn.Sequential(BODY, nn.Linear(1, 1))", before=before), 3, {})


def test_weights_of_the_run_that_differ_are_refused() -> None:
    name = tasks.find("noisy_line")
    start = tasks.start_of(name, 3, {})
    task = tasks.build(name, 3, {})
    nn.init.zeros_(next(task.model.parameters()))
    with pytest.raises(UnfairTaskError, match=f"different initial weights\n.*{MODEL_ADVICE}"):
        tasks.verified(name, 3, task, start)


def test_a_task_without_a_batch_has_no_start() -> None:
    with pytest.raises(TaskError, match=r"task 'mine\.py:own' has no batch"):
        tasks.start_of(plain(batches="[]"), 3, {})


@pytest.mark.parametrize(
    "batch",
    [
        "torch.rand(2, 1)",
        "{'x': torch.rand(2, 1), 'y': [1, 2]}",
        "(torch.rand(2, 1), (torch.rand(1), 'label'))",
        "numpy.random.rand(2, 1)",
        "[numpy.random.rand(2), torch.rand(2)]",
        "Batch(torch.rand(2, 1), torch.rand(2, 1))",
    ],
    ids=["tensor", "dict", "tuple", "numpy", "both", "dataclass"],
)
def test_a_batch_of_any_kind_is_compared_with_itself(batch: str) -> None:
    before = (
        "import numpy\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Batch:\n    x: torch.Tensor\n    y: torch.Tensor\n"
        "KEPT = []"  # what an earlier call made stays where it is, so that nothing is the same by standing there too
    )
    name = own(f"batch = {batch}\nKEPT.append(batch)\nreturn Task(nn.Linear(1, 1), [batch], None)", before=before)
    assert tasks.start_of(name, 3, {}).batches != tasks.start_of(name, 4, {}).batches


def test_a_batch_of_the_run_that_differs_is_refused() -> None:
    name = tasks.find("noisy_line")
    start = tasks.start_of(name, 3, {"samples": 4})
    other = built("noisy_line", 4, samples=4)
    right = built("noisy_line", 3, samples=4)
    watched = tasks.verified(name, 3, Task(right.model, other.batches, right.loss), start)
    with pytest.raises(UnfairTaskError, match="different first batches"):
        list(watched.batches)


def test_only_the_first_pass_is_verified() -> None:
    name = tasks.find("noisy_line")
    start = tasks.start_of(name, 3, {"samples": 40})
    assert len(start.batches) == 32
    watched = tasks.verified(name, 3, built("noisy_line", 3, samples=40), start)
    plain = built("noisy_line", 3, samples=40)
    for _ in range(3):
        pairs = list(zip(watched.batches, plain.batches, strict=True))
        assert len(pairs) == 40
        assert all(torch.equal(ours[0], theirs[0]) for ours, theirs in pairs)
