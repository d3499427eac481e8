"""Each run of an ensemble is the run alone."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from gradlab import modes, optimizers, schedules, tasks
from gradlab.engines import ensemble, loop
from gradlab.engines.ensemble import CannotStackError, Member, SeedTask, StackedTraining
from gradlab.tasks import Task, map_batch
from tests.table import MODES, OPTIMIZERS, TASKS, each_with_each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gradlab.modes import Mode
    from gradlab.rows import Row


STEPS = 200


SEEDS = (3, 4)


STACKED_TASKS = [each for each in TASKS if each[0] != "echo"]  # it carries its state from batch to batch


# The kernels of stacked tensors add in another order, so each step differs in its last bits, 1e-16 of the loss; modes
# that keep all never forget a difference, and on a curve of 200 steps it grows some hundredfold.
IN_DOUBLE = 1e-10


IN_SINGLE = 1e-3  # the same growth, from 6e-8


class Typed:
    """Batches in another floating-point type."""

    def __init__(self, batches: Any, dtype: torch.dtype) -> None:
        self.batches, self.dtype = batches, dtype

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        def typed(part: Any) -> Any:
            return part.to(self.dtype) if isinstance(part, torch.Tensor) and part.is_floating_point() else part

        return (map_batch(batch, typed) for batch in self.batches)


def built(name: str, options: dict[str, Any], seed: int, dtype: torch.dtype = torch.float64) -> Task:
    task = tasks.build(tasks.find(name), seed, options)
    return replace(task, model=task.model.to(dtype), batches=Typed(task.batches, dtype))


def stacks(words: Iterable[str]) -> list[list[Mode]]:
    """Return the modes in groups that step together."""
    found: dict[object, list[Mode]] = {}
    for mode in map(modes.parse, words):
        found.setdefault((mode.every, mode.mean, mode.by_batch), []).append(mode)
    return list(found.values())


def together(make: Any, members: Sequence[tuple[Mode, int]], optimizer: Any, **more: Any) -> list[list[Row]]:
    """Return the rows of runs that are trained as one stack: modes and seeds."""
    seeds = sorted({seed for _, seed in members})
    schedule, traced = more.pop("schedule", None), more.pop("traced", None)
    seed_tasks = [SeedTask(make(seed)) for seed in seeds]
    stack = StackedTraining(
        seed_tasks, [Member(mode, seeds.index(seed)) for mode, seed in members], optimizer, schedule, traced
    )
    found = list(ensemble.train(stack, **more))
    return [[losses.row(member) for losses in found] for member in range(len(members))]


def alone(make: Any, mode: Mode, seed: int, optimizer: Any, **more: Any) -> list[Row]:
    """Return the rows of a run that is trained by the plain loop."""
    task = make(seed)
    made = optimizer(list(task.model.parameters()))
    schedule, _ = more.pop("schedule", None), more.pop("traced", None)
    return list(loop.train(task, mode, made, scheduler=schedule(made) if schedule else None, **more))


def distance(rows: list[Row], expected: list[Row]) -> float:
    """Return how far two curves are from one another, over the height of the second; all else must be equal."""
    assert [row[:3] + row[4:] for row in rows] == [row[:3] + row[4:] for row in expected]
    height = max(abs(row.loss) for row in expected)
    assert math.isfinite(height)
    return max(abs(one.loss - other.loss) for one, other in zip(rows, expected, strict=True)) / height


def distances(make: Any, words: Sequence[str], optimizer: Any, seeds: Sequence[int] = SEEDS, **more: Any) -> float:
    """Train all modes in stacks, and each alone with one of the seeds in turn; return the largest distance."""
    worst = 0.0
    for group in stacks(words):
        members = [(mode, seed) for mode in group for seed in seeds]
        found = together(make, members, optimizer, **more)
        for nth, mode in enumerate(group):
            seed = seeds[nth % len(seeds)]
            rows = found[members.index((mode, seed))]
            worst = max(worst, distance(rows, alone(make, mode, seed, optimizer, **more)))
    return worst


def test_optimizer_options_may_differ_within_a_stack() -> None:
    make = partial(built, "noisy_line", {"batch_size": 8})
    modes_, seeds = [modes.parse(word) for word in ("zero_grad", "halve_grad", "zero_grad:fill")], (3, 4)
    for name, key, values in [
        ("SGD", "lr", (0.3, 0.01)),
        ("Adam", "weight_decay", (0.0, 0.5)),
        ("vanilla", "lr", (1e-3, 1e-1)),
    ]:
        builds = [partial(optimizers.build, name, options={"lr": 0.05, key: value}) for value in values]
        falling = partial(schedules.build, "linear", options={}, total=50) if name != "vanilla" else None
        chosen = [(mode, seed, nth) for nth in (1, 0) for seed in (0, 1) for mode in modes_]
        stack = StackedTraining(
            [SeedTask(make(seed)) for seed in seeds], [Member(*each) for each in chosen], builds, falling
        )
        found = list(ensemble.train(stack, steps=50, clip_norm=0.7))
        assert len(chosen) == 12
        for member, (mode, seed, nth) in enumerate(chosen):
            expected = alone(make, mode, seeds[seed], builds[nth], steps=50, clip_norm=0.7, schedule=falling)
            assert distance([losses.row(member) for losses in found], expected) < IN_DOUBLE


def optimizer_of(nth: int) -> Callable[[Sequence[nn.Parameter]], Any]:
    name, options = OPTIMIZERS[nth]
    return lambda parameters: optimizers.build(name, parameters, options)


sgd = partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.1)


# Each curve is that of the run alone


@pytest.mark.parametrize(("kind", "nth"), each_with_each(range(len(stacks(MODES))), range(len(OPTIMIZERS))))
def test_a_stacked_run_is_the_run_alone_in_float64(kind: int, nth: int) -> None:
    # all modes × optimizers; over these the tasks take turns
    words = [mode.name for mode in stacks(MODES)[kind]]
    name, options = STACKED_TASKS[(kind + nth) % len(STACKED_TASKS)]
    make = partial(built, name, options)
    traced = None if name == "heads_in_turn" else ensemble.TracedSteps()  # where weights rest in a step, it is not
    assert distances(make, words, optimizer_of(nth), steps=STEPS, traced=traced) < IN_DOUBLE
    assert not traced or not traced.fault


@pytest.mark.parametrize("nth", range(len(OPTIMIZERS)))
def test_a_stacked_run_is_nearly_the_run_alone_in_float32(nth: int) -> None:
    make = partial(built, *STACKED_TASKS[nth], dtype=torch.float32)
    words = ["zero_grad", "zero_grad:fill", "no_zero_grad", "halve_grad"]
    assert distances(make, words, optimizer_of(nth), steps=60) < IN_SINGLE


def test_clipping_and_schedules_apply_to_each_run_by_itself() -> None:
    schedule = partial(schedules.build, "cosine", options={}, total=40)
    make = partial(built, "noisy_line", {"samples": 10, "batch_size": 3})
    words = ["zero_grad", "no_zero_grad", "halve_grad"]
    found = distances(make, words, sgd, steps=40, clip_norm=0.5, schedule=lambda made: schedule(made))
    assert found < IN_DOUBLE
    assert distances(make, words, sgd, steps=40, clip_norm=1e9) < IN_DOUBLE  # where there is nothing to clip


@pytest.mark.parametrize(
    "ends", [{"epochs": 3}, {"steps": 7}, {"epochs": 2, "steps": 100}, {"epochs": 20, "steps": 6}]
)
def test_an_ensemble_ends_with_epochs_or_steps(ends: dict[str, Any]) -> None:
    make = partial(built, "noisy_line", {"samples": 10, "batch_size": 3})
    assert distances(make, ["accumulate:3", "keep=0.5,every=3"], sgd, **ends) < IN_DOUBLE


def test_items_are_logged_across_unequal_batches() -> None:
    make = partial(built, "mixed_lengths", {"sequences": 6})
    assert distances(make, ["zero_grad", "halve_grad"], sgd, steps=20) < IN_DOUBLE
    assert distances(make, ["accumulate:4:sum", "keep=0.5,every=4:sum"], sgd, steps=20) < IN_DOUBLE
    rows = together(make, [(modes.zero_grad(), 3), (modes.zero_grad(), 4)], sgd, steps=6)
    assert {row.items for row in rows[0]} == {4, 36}
    assert [row.items for row in rows[0]] != [row.items for row in rows[1]]


def test_unused_parameters_are_treated_as_in_the_run_alone() -> None:
    make = partial(built, "heads_in_turn", {"heads": 3, "hidden": 3, "batch_size": 5, "rounds": 2})
    adam = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1)
    assert distances(make, ["zero_grad", "zero_grad:fill", "no_zero_grad"], adam, steps=12) < IN_DOUBLE


def test_an_infinite_gradient_is_cleared_by_zeros() -> None:
    def make(seed: int) -> Task:  # noqa: ARG001
        model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
        nn.init.zeros_(model.weight)
        batches = [torch.full((1, 1), x, dtype=torch.float64) for x in (10.0, 1.0, 1.0)]
        return Task(model, batches, lambda model, x: model(x).sum() * 1e308)

    rprop = partial(torch.optim.Rprop, lr=0.01)  # the sign of an infinite gradient is a step like any other
    assert distances(make, ["zero_grad:fill", "no_zero_grad"], rprop, steps=3) == 0


# The last bits depend on which runs are in the stack, and nothing else does


@pytest.mark.parametrize("others", [0, 1, 2, 29])
def test_other_runs_of_a_stack_change_a_run_by_rounding_only(others: int) -> None:
    make = partial(built, "digits", {"hidden": 4, "batch_size": 512}, dtype=torch.float32)
    beside = [(modes.rule(0.01 * nth), 3) for nth in range(others)]
    found = together(make, [(modes.halve_grad(), 3), *beside], sgd, steps=20)[0]
    assert distance(found, alone(make, modes.halve_grad(), 3, sgd, steps=20)) < 1e-5


def test_seeds_that_use_different_parameters_cannot_be_stacked() -> None:
    def make(seed: int) -> Task:
        task = built("heads_in_turn", {"heads": 2, "hidden": 3, "batch_size": 5, "rounds": 1}, seed)
        batches: Any = list(task.batches)
        return replace(task, batches=batches[:: 1 if seed == 3 else -1])

    members = [(modes.zero_grad(), seed) for seed in SEEDS]
    with pytest.raises(CannotStackError, match="use different parameters"):
        together(make, members, sgd, steps=4)
