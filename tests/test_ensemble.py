"""Ensembles: each run of a stack is the run alone, and what cannot be stacked is found before it is trained."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from gradlab import modes, optimizers, tasks
from gradlab.engines import ensemble
from gradlab.engines import loop as training
from gradlab.engines.ensemble import CannotStackError, Member, Training, World
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
    worlds = [World(make(seed)) for seed in seeds]
    stack = Training(worlds, [Member(mode, seeds.index(seed)) for mode, seed in members], optimizer, schedule, traced)
    found = list(ensemble.train(stack, **more))
    return [[losses.row(member) for losses in found] for member in range(len(members))]


def alone(make: Any, mode: Mode, seed: int, optimizer: Any, **more: Any) -> list[Row]:
    """Return the rows of a run that is trained by the plain loop."""
    task = make(seed)
    made = optimizer(list(task.model.parameters()))
    schedule, _ = more.pop("schedule", None), more.pop("traced", None)
    return list(training.train(task, mode, made, scheduler=schedule(made) if schedule else None, **more))


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


def test_runs_whose_optimizers_have_other_options_are_each_the_run_alone_in_one_stack() -> None:
    make = partial(built, "noisy_line", {"batch_size": 8})
    modes_, seeds = [modes.parse(word) for word in ("zero_grad", "halve_grad", "zero_grad:fill")], (3, 4)
    for name, key, values in [
        ("SGD", "lr", (0.3, 0.01)),
        ("Adam", "weight_decay", (0.0, 0.5)),
        ("vanilla", "lr", (1e-3, 1e-1)),
    ]:
        builds = [partial(optimizers.build, name, options={"lr": 0.05, key: value}) for value in values]
        schedules = partial(optimizers.schedule, "linear", updates=50) if name != "vanilla" else None
        chosen = [(mode, seed, nth) for nth in (1, 0) for seed in (0, 1) for mode in modes_]
        stack = Training([World(make(seed)) for seed in seeds], [Member(*each) for each in chosen], builds, schedules)
        found = list(ensemble.train(stack, steps=50, clip_norm=0.7))
        assert len(chosen) == 12
        for member, (mode, seed, nth) in enumerate(chosen):
            expected = alone(make, mode, seeds[seed], builds[nth], steps=50, clip_norm=0.7, schedule=schedules)
            assert distance([losses.row(member) for losses in found], expected) < IN_DOUBLE


def optimizer_of(nth: int) -> Callable[[Sequence[nn.Parameter]], Any]:
    name, options = OPTIMIZERS[nth]
    return lambda parameters: optimizers.build(name, parameters, options)


sgd = partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.1)


# Each curve is that of the run alone


@pytest.mark.parametrize(("kind", "nth"), each_with_each(range(len(stacks(MODES))), range(len(OPTIMIZERS))))
def test_in_double_precision_each_run_of_a_stack_is_the_run_alone(kind: int, nth: int) -> None:
    # all modes × optimizers; over these the tasks take turns
    words = [mode.name for mode in stacks(MODES)[kind]]
    name, options = STACKED_TASKS[(kind + nth) % len(STACKED_TASKS)]
    make = partial(built, name, options)
    traced = None if name == "heads_in_turn" else ensemble.TracedSteps()  # where weights rest in a step, it is not
    assert distances(make, words, optimizer_of(nth), steps=STEPS, traced=traced) < IN_DOUBLE
    assert not traced or not traced.fault


@pytest.mark.parametrize("nth", range(len(OPTIMIZERS)))
def test_in_single_precision_it_is_the_run_alone_within_a_thousandth(nth: int) -> None:
    make = partial(built, *STACKED_TASKS[nth], dtype=torch.float32)
    words = ["zero_grad", "zero_grad:fill", "no_zero_grad", "halve_grad"]
    assert distances(make, words, optimizer_of(nth), steps=60) < IN_SINGLE


def test_gradients_are_clipped_and_rates_lowered_for_each_run_by_itself() -> None:
    schedule = partial(optimizers.schedule, "cosine", updates=40)
    make = partial(built, "noisy_line", {"samples": 10, "batch_size": 3})
    words = ["zero_grad", "no_zero_grad", "halve_grad"]
    found = distances(make, words, sgd, steps=40, clip_norm=0.5, schedule=lambda made: schedule(made))
    assert found < IN_DOUBLE
    assert distances(make, words, sgd, steps=40, clip_norm=1e9) < IN_DOUBLE  # where there is nothing to clip


@pytest.mark.parametrize(
    "ends", [{"epochs": 3}, {"steps": 7}, {"epochs": 2, "steps": 100}, {"epochs": 20, "steps": 6}]
)
def test_a_run_ends_with_its_epochs_or_its_steps_whichever_comes_first(ends: dict[str, Any]) -> None:
    make = partial(built, "noisy_line", {"samples": 10, "batch_size": 3})
    assert distances(make, ["accumulate:3", "keep=0.5,every=3"], sgd, **ends) < IN_DOUBLE


def test_losses_told_with_their_items_are_logged_with_these_across_unequal_batches() -> None:
    make = partial(built, "mixed_lengths", {"sequences": 6})
    assert distances(make, ["zero_grad", "halve_grad"], sgd, steps=20) < IN_DOUBLE
    assert distances(make, ["accumulate:4:sum", "keep=0.5,every=4:sum"], sgd, steps=20) < IN_DOUBLE
    rows = together(make, [(modes.zero_grad(), 3), (modes.zero_grad(), 4)], sgd, steps=6)
    assert {row.items for row in rows[0]} == {4, 36}
    assert [row.items for row in rows[0]] != [row.items for row in rows[1]]


def test_a_parameter_that_a_step_does_not_use_is_left_alone_or_moved_on_as_in_the_run_alone() -> None:
    make = partial(built, "heads_in_turn", {"heads": 3, "hidden": 3, "batch_size": 5, "rounds": 2})
    adam = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1)
    assert distances(make, ["zero_grad", "zero_grad:fill", "no_zero_grad"], adam, steps=12) < IN_DOUBLE


def test_nothing_of_an_infinite_gradient_is_left_where_it_is_cleared_by_zeros() -> None:
    def make(seed: int) -> Task:  # noqa: ARG001
        model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
        nn.init.zeros_(model.weight)
        batches = [torch.full((1, 1), x, dtype=torch.float64) for x in (10.0, 1.0, 1.0)]
        return Task(model, batches, lambda model, x: model(x).sum() * 1e308)

    rprop = partial(torch.optim.Rprop, lr=0.01)  # the sign of an infinite gradient is a step like any other
    assert distances(make, ["zero_grad:fill", "no_zero_grad"], rprop, steps=3) == 0


def shuffled(seed: int) -> Task:
    """Return a task that draws from torch's global generator whenever an epoch begins."""
    tasks.loading.seed_everything(seed)
    x, y = torch.randn(12, 2), torch.randn(12, 1)
    rows: Any = list(zip(x, y, strict=True))
    loader = torch.utils.data.DataLoader(rows, batch_size=5, shuffle=True)
    return Task.supervised(nn.Linear(2, 1), loader, nn.MSELoss())


def test_each_seed_draws_its_batches_as_if_it_were_alone_from_the_one_global_generator() -> None:
    members = [(modes.zero_grad(), seed) for seed in (1, 2, 3)]
    found = together(shuffled, members, sgd, steps=20)
    expected = [alone(shuffled, mode, seed, sgd, steps=20) for mode, seed in members]
    assert max(map(distance, found, expected)) < IN_SINGLE


def test_batches_too_large_to_draw_ahead_are_drawn_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = together(shuffled, [(modes.zero_grad(), seed) for seed in (1, 2)], sgd, steps=20)
    drawn: list[int] = []
    before = World.drawn

    def noted(world: World, batches: Any, most: int) -> list[Any]:
        drawn.append(most)
        return before(world, batches, most)

    monkeypatch.setattr(World, "drawn", noted)
    monkeypatch.setattr(ensemble.batches, "BLOCK_BYTES", 1)
    assert together(shuffled, [(modes.zero_grad(), seed) for seed in (1, 2)], sgd, steps=20) == expected
    assert set(drawn) == {1}


# The last bits depend on which runs are in the stack, and nothing else does


@pytest.mark.parametrize("others", [0, 1, 2, 29])
def test_a_run_s_curve_is_the_same_within_rounding_whichever_others_are_trained_beside_it(others: int) -> None:
    make = partial(built, "digits", {"hidden": 4, "batch_size": 512}, dtype=torch.float32)
    beside = [(modes.rule(0.01 * nth), 3) for nth in range(others)]
    found = together(make, [(modes.halve_grad(), 3), *beside], sgd, steps=20)[0]
    assert distance(found, alone(make, modes.halve_grad(), 3, sgd, steps=20)) < 1e-5


# What cannot be stacked is found by rehearsing


def data(rows: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(rows, 3, generator=generator), torch.randn(rows, 1, generator=generator)


def net(*inner: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), *inner, nn.Linear(4, 1))


def plain(inner: nn.Module | None = None, loss: Any = None, batches: Any = None) -> Task:
    task = Task.supervised(net(inner or nn.Tanh()), batches or [data(6), data(9)], nn.MSELoss())
    return replace(task, loss=loss) if loss else task


def mse(model: nn.Module, batch: Any) -> torch.Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


class Reused:
    """Batches that all stand in one tensor."""

    def __iter__(self) -> Iterator[Any]:
        x, y = data()
        for _ in range(3):
            x += 1
            yield x, y


class Scaled(nn.Module):
    """A model with a number of its own that is neither a parameter nor a buffer."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.inner, self.scale = net(nn.Tanh()), scale

    def forward(self, x: torch.Tensor) -> Any:
        return self.scale * self.inner(x)


def branching(model: nn.Module, batch: Any) -> torch.Tensor:
    loss = mse(model, batch)
    return loss if loss > 0.5 else 2 * loss


def numbered(state: list[int], model: nn.Module, batch: Any) -> torch.Tensor:
    state.append(1)
    return mse(model, batch) * len(state)


def random_from_python(model: nn.Module, batch: Any) -> torch.Tensor:
    import random

    return mse(model, batch) * (1 + random.random())  # noqa: S311 - no secret


def sparse() -> Task:
    model = nn.Embedding(5, 1, sparse=True)
    return Task(model, [torch.tensor([1, 2])], lambda model, x: (model(x) ** 2).mean())


def hooked() -> Task:
    task = plain()
    next(task.model.parameters()).register_hook(lambda gradient: gradient * 2)  # type: ignore[no-untyped-call]  # torch's
    return task


REHEARSED: dict[str, tuple[Callable[[], list[Task]], str]] = {
    "nothing stands against it": (lambda: [plain(), plain()], ""),
    "one batch": (lambda: [plain(batches=[data()])], ""),
    "a frozen layer": (lambda: [frozen(), frozen()], ""),
    "dropout": (lambda: [plain(nn.Dropout(0.5))], "its loss draws random numbers"),
    "Python's numbers": (lambda: [plain(loss=random_from_python)], "its loss draws random numbers"),
    "BatchNorm": (lambda: [plain(nn.BatchNorm1d(4))], "its model writes to its buffers"),
    "echo": (lambda: [tasks.build(tasks.find("echo"), 1, {})], "its loss keeps something from batch to batch"),
    "a counter": (lambda: [plain(loss=partial(numbered, []))], "its loss keeps something from batch to batch"),
    "a branch on data": (lambda: [plain(loss=branching)], "torch.func.vmap cannot compute its loss"),
    "a sparse gradient": (lambda: [sparse()], "its gradients are sparse"),
    "a hook": (lambda: [hooked()], "its loss or gradient is another"),
    "a number of its own seed": (
        lambda: [replace(plain(), model=Scaled(scale)) for scale in (1.0, 2.0)],
        "its loss or gradient is another",
    ),
    "another model for each seed": (
        lambda: [plain(), plain(nn.Sequential(nn.Linear(4, 4), nn.Tanh()))],
        "its loss or gradient is another",
    ),
    "one tensor for all batches": (lambda: [plain(batches=Reused())], "its batches are written over"),
    "a loss that raises": (lambda: [plain(loss=lambda *_: 1 / 0)], "its loss raises ZeroDivisionError"),
    "no batch": (lambda: [plain(batches=iter([]))], "it has no batch"),
}


def frozen() -> Task:
    task = plain()
    next(task.model.parameters()).requires_grad_(False)
    return task


@pytest.mark.parametrize("name", REHEARSED)
def test_a_rehearsal_finds_what_cannot_be_stacked_and_says_why(name: str) -> None:
    torch.manual_seed(0)
    make, reason = REHEARSED[name]
    found = ensemble.obstacle(make(), modes.zero_grad(), sgd)
    assert (found == "") if reason == "" else (reason in found)


def test_accumulating_by_items_and_modes_of_ones_own_are_no_part_of_a_stack() -> None:
    pairs = plain(loss=lambda model, batch: (mse(model, batch) * 3, 3))
    assert "by the items" in ensemble.obstacle([pairs], modes.accumulate(4), sgd)
    for mode in (modes.zero_grad(), modes.accumulate(4, mean=False), modes.accumulate(4, by_batch=True)):
        assert ensemble.obstacle([pairs], mode, sgd) == ""
    own = modes.zero_grad()._replace(leave=lambda *_: None)
    assert "a mode of your own" in ensemble.obstacle([plain()], own, sgd)


def test_every_optimizer_of_torch_is_stacked_but_those_that_look_at_more_than_one_element() -> None:
    refused = {
        name
        for name in optimizers.names()
        if ensemble.obstacle_before(modes.zero_grad(), partial(optimizers.build, name, options={"lr": 0.01}))
    }
    assert refused == {"Adafactor", "Muon", "SparseAdam"} & set(optimizers.names())


def test_seeds_that_use_other_parameters_in_a_step_are_not_trained_as_a_stack() -> None:
    def make(seed: int) -> Task:
        task = built("heads_in_turn", {"heads": 2, "hidden": 3, "batch_size": 5, "rounds": 1}, seed)
        batches: Any = list(task.batches)
        return replace(task, batches=batches[:: 1 if seed == 3 else -1])

    members = [(modes.zero_grad(), seed) for seed in SEEDS]
    with pytest.raises(CannotStackError, match="do not use the same parameters"):
        together(make, members, sgd, steps=4)


def test_seeds_with_epochs_of_other_lengths_are_not_trained_as_a_stack() -> None:
    def make(seed: int) -> Task:
        return plain(batches=[data()] * seed)

    with pytest.raises(CannotStackError, match="have not as many batches"):
        together(make, [(modes.zero_grad(), seed) for seed in SEEDS], sgd, steps=40)


def test_a_loss_that_counts_in_some_steps_alone_is_not_trained_as_a_stack() -> None:
    def loss(model: nn.Module, batch: Any) -> Any:
        return (mse(model, batch), 1) if len(batch[0]) == 9 else mse(model, batch)

    with pytest.raises(CannotStackError, match="a pair"):
        together(lambda _seed: plain(loss=loss), [(modes.zero_grad(), 1)], sgd, steps=4)


def test_batches_that_draw_from_no_global_generator_are_not_drawn_with_these() -> None:
    of_its_own = World(built("noisy_line", {"samples": 10, "batch_size": 5}, 3, torch.float32))
    assert of_its_own.shares  # batches of a kind that is not known
    for name in ("noisy_line", "digits", "straight_line", "heads_in_turn"):
        assert not World(tasks.build(tasks.find(name), 3, {}), resumable=False).shares
    task = tasks.build(tasks.find("noisy_line"), 3, {})
    task.batches.generator = torch.default_generator  # type: ignore[attr-defined]  # it is one of ours
    assert World(task, resumable=False).shares
