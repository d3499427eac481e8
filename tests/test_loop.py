"""Training: the one rule, held bit for bit against loops written by hand with torch alone."""

from __future__ import annotations

import copy
import math
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from gradlab import modes, optimizers, schedules, tasks
from gradlab.engines.accumulation import update_count
from gradlab.engines.loop import train
from gradlab.errors import TaskError
from gradlab.rows import Row
from gradlab.tasks import Task
from tests.table import MODES, OPTIMIZERS, TASKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import Tensor

    from gradlab.modes import Mode


ENDS: list[dict[str, Any]] = [{"epochs": 3}, {"steps": 10}]  # the tables' tasks have 4 batches an epoch, or 1


each_mode = pytest.mark.parametrize("word", MODES)


each_task = pytest.mark.parametrize(("name", "options"), TASKS, ids=[name for name, _ in TASKS])


each_optimizer = pytest.mark.parametrize(
    ("optimizer", "settings"), OPTIMIZERS, ids=["-".join([name, *settings]) for name, settings in OPTIMIZERS]
)


each_end = pytest.mark.parametrize("end", ENDS, ids=["epochs", "steps"])


# What is compared with what


def weights(model: nn.Module) -> list[Tensor]:
    return [each.detach().clone() for each in model.parameters()]


def equal(one: Iterable[Tensor | None], other: Iterable[Tensor | None]) -> bool:
    """Say whether two lists of tensors are equal bit for bit; None equals None."""
    return all(a is b if a is None or b is None else torch.equal(a, b) for a, b in zip(one, other, strict=True))


def numbers(tensors: Iterable[Tensor | None]) -> list[float | None]:
    return [None if each is None else each.item() for each in tensors]


def gradients(model: nn.Module) -> list[Tensor | None]:
    return [each.grad for each in model.parameters()]


def built(name: str, options: dict[str, object], seed: int = 3) -> Task:
    return tasks.build(tasks.find(name), seed, options)


def optimizer_of(name: str, task: Task, options: dict[str, Any]) -> optimizers.Optimizer:
    return optimizers.build(name, task.model.parameters(), options)


def by_hand(task: Task, mode: Mode, optimizer: Any, epochs: int | None = None, steps: int | None = None) -> list[Row]:
    """Train slowly and obviously: a list of the epoch's batches, cut into windows, one update after each."""
    rows: list[Row] = []
    update = epoch = 0
    while epoch != epochs and len(rows) != steps:
        batches = list(task.batches)
        if steps is not None:
            batches = batches[: steps - len(rows)]
        for start in range(0, len(batches), mode.every):
            window = batches[start : start + mode.every]
            for batch in window:
                loss = task.loss(task.model, batch)
                (loss / len(window) if mode.mean else loss).backward()
                rows.append(Row(len(rows), update, epoch, loss.item()))
            optimizer.step()
            update += 1
            for w in task.model.parameters():
                if w.grad is not None:
                    kept = mode.keep * w.grad
                    w.grad = kept if mode.keep != 0 or mode.fill else None
        epoch += 1
    return rows


class Batches:
    """Re-iterable batches that do not tell how many they are."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches = list(batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


class Lying(Batches):
    """Batches that say they are `said`."""

    def __init__(self, batches: Iterable[Any], said: int) -> None:
        super().__init__(batches)
        self.said = said

    def __len__(self) -> int:
        return self.said


class Shy(Batches):
    """Batches with a len() that is refused, as a DataLoader's over an IterableDataset is."""

    def __len__(self) -> int:
        raise TypeError("no length")


def one_weight(batches: Iterable[Any], start: float = 1.0) -> Task:
    """Return the task of loss w·x, the gradient of which is x: all its numbers are exact."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, start)
    return Task(model, batches, lambda model, x: model(torch.tensor([x])).sum())


def slope_one(count: int) -> list[float]:
    return [1.0] * count


def updates_of(mode: str, batches: Iterable[Any], **end: Any) -> list[int]:
    task = one_weight(batches)
    return [row.update for row in train(task, modes.parse(mode), optimizer_of("vanilla", task, {"lr": 0.0}), **end)]


# (a) With plain SGD, what is kept is the momentum


def curve_data(dtype: torch.dtype) -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    """Return a small network and nine mini-batches of 60 points, the last one shorter."""
    generator = torch.Generator().manual_seed(7)
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)).to(dtype)
    x = torch.randn(60, 5, generator=generator, dtype=dtype)
    y = torch.randn(60, 1, generator=generator, dtype=dtype)
    return model, [(x[i : i + 7], y[i : i + 7]) for i in range(0, 60, 7)]


def the_loop_everybody_knows(
    model: nn.Module, batches: list[tuple[Tensor, Tensor]], optimizer: torch.optim.Optimizer
) -> list[float]:
    losses = []
    for _ in range(25):
        for inputs, targets in batches:
            optimizer.zero_grad()
            loss: Any = nn.functional.mse_loss(model(inputs), targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def kept(
    keep: float, model: nn.Module, batches: list[tuple[Tensor, Tensor]], optimizer: torch.optim.Optimizer
) -> list[float]:
    task = Task.supervised(model, batches, nn.functional.mse_loss)
    return [row.loss for row in train(task, modes.rule(keep), optimizer, epochs=25)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.9, 1.0])
def test_keep_under_plain_sgd_is_heavy_ball_momentum_bit_for_bit(keep: float, dtype: torch.dtype) -> None:
    theirs, batches = curve_data(dtype)
    ours = copy.deepcopy(theirs)
    expected = the_loop_everybody_knows(theirs, batches, torch.optim.SGD(theirs.parameters(), 0.003, momentum=keep))
    losses = kept(keep, ours, batches, torch.optim.SGD(ours.parameters(), 0.003))
    assert len(losses) >= 200
    assert all(math.isfinite(loss) for loss in losses)
    assert losses == expected
    assert equal(weights(ours), weights(theirs))


@pytest.mark.parametrize("word", ["no_zero_grad", "halve_grad", "decay:0.9"])
def test_the_named_modes_are_that_momentum_too(word: str) -> None:
    theirs, batches = curve_data(torch.float64)
    ours = copy.deepcopy(theirs)
    momentum = {"no_zero_grad": 1.0, "halve_grad": 0.5, "decay:0.9": 0.9}[word]
    expected = the_loop_everybody_knows(
        theirs, batches, torch.optim.SGD(theirs.parameters(), 0.003, momentum=momentum)
    )
    task = Task.supervised(ours, batches, nn.functional.mse_loss)
    rows = train(task, modes.parse(word), torch.optim.SGD(ours.parameters(), 0.003), epochs=25)
    assert [row.loss for row in rows] == expected


def test_with_weight_decay_it_is_momentum_no_more() -> None:
    theirs, batches = curve_data(torch.float64)
    ours = copy.deepcopy(theirs)
    decayed = torch.optim.SGD(theirs.parameters(), 0.003, momentum=0.9, weight_decay=0.1)
    expected = the_loop_everybody_knows(theirs, batches, decayed)
    losses = kept(0.9, ours, batches, torch.optim.SGD(ours.parameters(), 0.003, weight_decay=0.1))
    assert losses != expected
    assert not equal(weights(ours), weights(theirs))


def test_with_adam_it_is_not_adams_momentum() -> None:
    theirs, batches = curve_data(torch.float64)
    ours = copy.deepcopy(theirs)
    expected = the_loop_everybody_knows(
        theirs, batches, torch.optim.Adam(theirs.parameters(), 0.003, betas=(0.9, 0.999))
    )
    losses = kept(0.9, ours, batches, torch.optim.Adam(ours.parameters(), 0.003, betas=(0.0, 0.999)))
    assert losses != expected
    assert not equal(weights(ours), weights(theirs))


# (b) Every mode × task × optimizer is the slow loop


@pytest.mark.parametrize("end", [ENDS[0], pytest.param(ENDS[1], marks=pytest.mark.slow)], ids=["epochs", "steps"])
@each_optimizer
@each_task
@each_mode
def test_rows_weights_and_gradients_are_those_of_the_slow_loop(
    word: str,
    name: str,
    options: dict[str, object],
    optimizer: str,
    settings: dict[str, Any],
    end: dict[str, Any],
) -> None:
    mode, ours, slow = modes.parse(word), built(name, options), built(name, options)
    rows = list(train(ours, mode, optimizer_of(optimizer, ours, settings), **end))
    if optimizer == "vanilla":  # its arithmetic is another test's claim
        theirs: Any = optimizer_of(optimizer, slow, settings)
    else:
        theirs = getattr(torch.optim, optimizer)(slow.model.parameters(), **settings)
    assert rows == by_hand(slow, mode, theirs, **end)
    assert equal(weights(ours.model), weights(slow.model))
    assert equal(gradients(ours.model), gradients(slow.model))


@each_task
@each_mode
def test_vanilla_is_sgd_bit_for_bit(word: str, name: str, options: dict[str, object]) -> None:
    ours, theirs = built(name, options), built(name, options)
    rows = list(train(ours, modes.parse(word), optimizer_of("vanilla", ours, {"lr": 0.01}), epochs=5))
    expected = list(train(theirs, modes.parse(word), torch.optim.SGD(theirs.model.parameters(), 0.01), epochs=5))
    assert rows == expected
    assert equal(weights(ours.model), weights(theirs.model))


@each_optimizer
@each_task
@each_mode
def test_two_runs_are_equal_bit_for_bit(
    word: str, name: str, options: dict[str, object], optimizer: str, settings: dict[str, Any]
) -> None:
    one, other = built(name, options), built(name, options)
    rows = [
        list(train(each, modes.parse(word), optimizer_of(optimizer, each, settings), epochs=2))
        for each in (one, other)
    ]
    assert rows[0] == rows[1]
    assert equal(weights(one.model), weights(other.model))


@each_mode
def test_another_seed_gives_other_rows(word: str) -> None:
    rows = []
    for seed in (3, 4):
        task = built("noisy_line", {}, seed)
        rows.append(list(train(task, modes.parse(word), optimizer_of("SGD", task, {"lr": 0.01}), epochs=2)))
    assert rows[0] != rows[1]


def test_no_two_modes_of_the_table_leave_the_same_weights() -> None:
    ends = []
    for word in MODES:
        # the one differs where a parameter goes unused, the other where batches tell their size: neither is so here
        if word not in ("zero_grad:fill", "accumulate:4:means"):
            task = built("noisy_line", {"samples": 10, "batch_size": 3})
            for _ in train(task, modes.parse(word), optimizer_of("SGD", task, {"lr": 0.01}), epochs=3):
                pass
            ends.append(weights(task.model))
    assert not any(equal(one, other) for nth, one in enumerate(ends) for other in ends[:nth])


# (f) What is counted, and when it ends


@pytest.mark.parametrize("kind", [list, Batches, Shy])
@pytest.mark.parametrize(
    ("mode", "end", "expected"),
    [
        ("zero_grad", {"epochs": 1}, [0, 1, 2, 3, 4, 5]),
        ("zero_grad", {"steps": 8}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ("accumulate:4", {"epochs": 2}, [0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3]),
        ("accumulate:4", {"steps": 5}, [0, 0, 0, 0, 1]),
        ("accumulate:4", {"steps": 9}, [0, 0, 0, 0, 1, 1, 2, 2, 2]),
        ("accumulate:3", {"epochs": 2}, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]),
        ("accumulate:9", {"epochs": 2}, [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]),
        ("keep=0.5,every=5", {"epochs": 1}, [0, 0, 0, 0, 0, 1]),
    ],
)
def test_update_counts_the_optimizer_steps_before_the_row(
    kind: Callable[[list[float]], Iterable[float]], mode: str, end: dict[str, Any], expected: list[int]
) -> None:
    assert updates_of(mode, kind(slope_one(6)), **end) == expected


@pytest.mark.parametrize("mode", ["zero_grad", "accumulate:2"])
@pytest.mark.parametrize(
    ("end", "epochs"),
    [
        ({"epochs": 2}, [0, 0, 0, 1, 1, 1]),
        ({"steps": 4}, [0, 0, 0, 1]),
        ({"steps": 3}, [0, 0, 0]),
        ({"steps": 1}, [0]),
        ({"epochs": 1, "steps": 5}, [0, 0, 0]),
        ({"epochs": 5, "steps": 4}, [0, 0, 0, 1]),
    ],
)
def test_training_ends_with_epochs_or_steps_whichever_come_first(
    mode: str, end: dict[str, Any], epochs: list[int]
) -> None:
    task = one_weight(slope_one(3))
    rows = list(train(task, modes.parse(mode), optimizer_of("vanilla", task, {"lr": 0.1}), **end))
    assert [row.step for row in rows] == list(range(len(epochs)))
    assert [row.epoch for row in rows] == epochs


def test_training_for_steps_draws_no_batch_more_than_it_needs() -> None:
    drawn = []

    class Counted(Batches):
        def __iter__(self) -> Iterator[Any]:
            for batch in self.batches:
                drawn.append(batch)
                yield batch

    for mode in ("zero_grad", "accumulate:2"):
        drawn.clear()
        updates_of(mode, Counted([1.0, 2.0, 3.0, 4.0]), steps=6)
        assert drawn == [1.0, 2.0, 3.0, 4.0, 1.0, 2.0]


@each_mode
@each_end
@pytest.mark.parametrize("kind", [Batches, Shy])
def test_batches_without_a_length_give_the_rows_of_a_list(
    kind: Callable[[Iterable[Any]], Iterable[Any]], end: dict[str, Any], word: str
) -> None:
    data = [2.0, -1.0, 0.5, 4.0, 3.0]
    told, untold = one_weight(data), one_weight(kind(data))
    rows = [
        list(train(task, modes.parse(word), optimizer_of("SGD", task, {"lr": 0.1}), **end)) for task in (told, untold)
    ]
    assert rows[0] == rows[1]
    assert equal(weights(told.model), weights(untold.model))


@pytest.mark.parametrize("mode", ["zero_grad", "accumulate:2"])
@pytest.mark.parametrize("batches", [[], Batches([])], ids=["list", "unknown length"])
@pytest.mark.parametrize("end", [{"epochs": 1}, {"steps": 1}], ids=str)
def test_an_epoch_without_a_batch_is_an_error(mode: str, batches: Iterable[Any], end: dict[str, Any]) -> None:
    with pytest.raises(TaskError, match="epoch 0 has no batch"):
        updates_of(mode, batches, **end)


@pytest.mark.parametrize("end", [{"epochs": 2}, {"steps": 4}], ids=str)
@pytest.mark.parametrize("mode", ["zero_grad", "accumulate:2"])
def test_one_shot_batches_are_an_error_at_the_second_epoch(mode: str, end: dict[str, Any]) -> None:
    with pytest.raises(TaskError, match="epoch 1 has no batch; use a list or a DataLoader"):
        updates_of(mode, iter([1.0, 2.0, 3.0]), **end)


def test_training_without_an_end_is_our_own_mistake() -> None:
    task = one_weight([1.0])
    with pytest.raises(AssertionError, match="training needs an end"):
        next(train(task, modes.zero_grad(), optimizer_of("SGD", task, {"lr": 0.1})))


# (g) None and zeros


def moved_by_the_third_step(word: str, momentum: float) -> bool:
    """Say whether a head that the first and third batch do not use moves at the third, having moved at the second."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.Linear(1, 1)})
    task = Task(model, ["a", "b", "a"], lambda model, head: model[head](torch.ones(1, 1)).sum())
    rows = train(task, modes.parse(word), torch.optim.SGD(model.parameters(), 0.1, momentum=momentum), epochs=1)
    seen = [weights(model["b"]) for _ in rows]
    assert not equal(seen[0], seen[1])
    return not equal(seen[1], seen[2])


def test_momentum_moves_an_unused_parameter_under_zeros_not_none() -> None:
    assert [moved_by_the_third_step(word, 0.9) for word in ("zero_grad", "zero_grad:fill")] == [False, True]


def test_without_momentum_zeros_move_nothing_either() -> None:
    assert [moved_by_the_third_step(word, 0.0) for word in ("zero_grad", "zero_grad:fill")] == [False, False]


def test_a_kept_gradient_moves_an_unused_parameter() -> None:
    assert [moved_by_the_third_step(word, 0.0) for word in ("halve_grad", "no_zero_grad")] == [True, True]


# (h) A row is there when its step is done


@pytest.mark.parametrize(
    ("word", "left"),
    [("zero_grad", None), ("zero_grad:fill", 0.0), ("no_zero_grad", 4.0), ("halve_grad", 2.0), ("keep=-0.25", -1.0)],
)
def test_a_row_comes_after_its_update_with_keep_applied(word: str, left: float | None) -> None:
    task = one_weight([4.0, 1.0], start=3.0)
    rows = train(task, modes.parse(word), optimizer_of("vanilla", task, {"lr": 0.5}), epochs=1)
    assert next(rows) == Row(step=0, update=0, epoch=0, loss=12.0)  # w = 3 before, and 3 - 0.5·4 = 1 after
    assert numbers([*weights(task.model), *gradients(task.model)]) == [1.0, left]


def test_within_a_window_only_grad_changes() -> None:
    task = one_weight([4.0, 2.0, 1.0, 1.0], start=3.0)
    rows = train(task, modes.accumulate(4), optimizer_of("vanilla", task, {"lr": 0.5}), epochs=1)
    list(islice(rows, 2))
    assert numbers([*weights(task.model), *gradients(task.model)]) == [3.0, 4 / 4 + 2 / 4]


def test_nothing_happens_before_the_first_row_is_asked_for() -> None:
    task = one_weight([4.0])
    train(task, modes.zero_grad(), optimizer_of("vanilla", task, {"lr": 0.5}), epochs=1)
    assert numbers([*weights(task.model), *gradients(task.model)]) == [1.0, None]


@each_optimizer
@pytest.mark.parametrize("word", ["zero_grad", "zero_grad:fill", "no_zero_grad", "halve_grad", "decay:0.9"])
def test_a_training_closed_early_can_be_continued(word: str, optimizer: str, settings: dict[str, Any]) -> None:
    whole, parted = built("straight_line", {}), built("straight_line", {})
    expected = list(train(whole, modes.parse(word), optimizer_of(optimizer, whole, settings), steps=9))
    same = optimizer_of(optimizer, parted, settings)
    first = train(parted, modes.parse(word), same, steps=9)
    losses = [row.loss for row in islice(first, 4)]
    first.close()  # type: ignore[attr-defined]  # an Iterator to its callers, a generator in fact
    losses += [row.loss for row in train(parted, modes.parse(word), same, steps=5)]
    assert losses == [row.loss for row in expected]
    assert equal(weights(parted.model), weights(whole.model))
    assert equal(gradients(parted.model), gradients(whole.model))


@pytest.mark.parametrize("mode", ["zero_grad", "accumulate:2"])
@pytest.mark.parametrize("end", [{"epochs": 9}, {"steps": 9}], ids=str)
def test_closing_it_closes_the_batches_too(mode: str, end: dict[str, Any]) -> None:
    closed = []

    class Closing(Batches):
        def __iter__(self) -> Iterator[Any]:
            try:
                yield from self.batches
            finally:
                closed.append(True)

    task = one_weight(Closing(slope_one(5)))
    rows = train(task, modes.parse(mode), optimizer_of("vanilla", task, {"lr": 0.5}), **end)
    list(islice(rows, 3))
    rows.close()  # type: ignore[attr-defined]  # an Iterator to its callers, a generator in fact
    assert closed == [True]


def test_a_frozen_parameter_neither_moves_nor_keeps_a_gradient() -> None:
    model = nn.Linear(1, 1)
    model.bias.requires_grad_(False)
    before = model.bias.item()
    task = Task(model, slope_one(3), lambda model, x: model(torch.tensor([x])).sum())
    list(train(task, modes.halve_grad(), optimizer_of("SGD", task, {"lr": 0.1}), epochs=1))
    assert (model.bias.item(), model.bias.grad) == (before, None)


# Clipping and schedules


NORM = 0.05  # below that of the first gradients


def double(name: str, seed: int = 5, **options: object) -> tasks.Task:
    """Return the task in float64."""
    made = tasks.build(tasks.find(name), seed, options)
    made.model.double()
    batches = made.batches
    assert isinstance(batches, tasks.Minibatches)
    batches.inputs = batches.inputs.double()
    if batches.targets.is_floating_point():
        batches.targets = batches.targets.double()
    return made


def by_hand_clipped(task: tasks.Task, norm: float, epochs: int) -> list[float]:
    optimizer = torch.optim.SGD(task.model.parameters(), lr=0.1)
    length = tasks.epoch_length(task.batches)
    assert length
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=epochs * length)
    losses = []
    for _ in range(epochs):
        for batch in task.batches:
            loss = task.loss(task.model, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(task.model.parameters(), norm)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    return losses


def scheduled(task: tasks.Task, word: str, epochs: int, name: str = "linear", norm: float | None = NORM) -> list[Row]:
    mode = modes.parse(word)
    optimizer = optimizers.build("SGD", task.model.parameters(), {"lr": 0.1})
    length = tasks.epoch_length(task.batches)
    assert length
    scheduler = schedules.build(name, optimizer, {}, update_count(length, mode.every, epochs=epochs))
    return list(train(task, mode, optimizer, epochs=epochs, clip_norm=norm, scheduler=scheduler))


def test_clipping_and_schedule_are_those_of_the_loop_by_hand() -> None:
    ours = scheduled(double("digits", batch_size=256), "zero_grad", 3)
    # LinearLR multiplies factor by factor, ours divides once: a rounding of float64 apart at each update.
    assert [row.loss for row in ours] == pytest.approx(
        by_hand_clipped(double("digits", batch_size=256), NORM, 3), rel=1e-12
    )


def test_clipping_and_schedule_apply_once_a_window() -> None:
    # 1,797 images: the last window of an epoch is a single micro-batch of 5, as is the last large batch.
    small, large = double("digits", batch_size=8), double("digits", batch_size=32)
    micro, whole = scheduled(small, "accumulate:4", 2), scheduled(large, "zero_grad", 2)
    assert micro[-1].update == whole[-1].update == 113
    for ours, theirs in zip(small.model.parameters(), large.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)  # sums of float64 in another order


def test_without_clipping_the_same_training_goes_elsewhere() -> None:
    clipped, free = (scheduled(double("digits", batch_size=256), "zero_grad", 1, norm=norm) for norm in (NORM, None))
    assert clipped[0] == free[0]
    assert clipped[-1] != free[-1]
