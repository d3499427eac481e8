"""Training: the one rule, held bit for bit against loops written by hand with torch alone."""

from __future__ import annotations

import copy
import math
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from gradlab import modes, optimizers, tasks
from gradlab.engines import loop as training
from gradlab.engines.loop import train
from gradlab.errors import OptimizerError, TaskError
from gradlab.rows import Row
from gradlab.tasks import Task
from tests.table import MODES, OPTIMIZERS, TASKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

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
def test_under_plain_sgd_what_is_kept_is_heavy_ball_momentum_bit_for_bit(keep: float, dtype: torch.dtype) -> None:
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


# (d) Accumulation


@pytest.mark.parametrize("every", [2, 3, 6])
def test_accumulating_equal_micro_batches_is_training_on_the_big_batch(every: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    x, y = torch.randn(24, 3, dtype=torch.float64), torch.randn(24, 1, dtype=torch.float64)
    big = Task.supervised(model, [(x[i : i + 12], y[i : i + 12]) for i in (0, 12)], nn.MSELoss())
    size = 12 // every
    small = Task.supervised(
        copy.deepcopy(model), [(x[i : i + size], y[i : i + size]) for i in range(0, 24, size)], nn.MSELoss()
    )
    big_losses = [row.loss for row in train(big, modes.zero_grad(), optimizer_of("SGD", big, {"lr": 0.05}), epochs=25)]
    rows = list(train(small, modes.accumulate(every), optimizer_of("SGD", small, {"lr": 0.05}), epochs=25))
    means = [sum(row.loss for row in rows[i : i + every]) / every for i in range(0, len(rows), every)]
    # The same sums of 12 terms in another order: some 12·2⁻⁵³ ≈ 1e-15 of a gradient of order 1, times lr, in each of
    # 50 updates, of which a stable descent magnifies none: below 1e-13 with room for the network's depth.
    assert means == pytest.approx(big_losses, rel=1e-13, abs=1e-13)
    for ours, theirs in zip(weights(small.model), weights(big.model), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-13, atol=1e-13)


def test_the_logged_loss_is_that_of_the_micro_batch_not_divided() -> None:
    task = one_weight([2.0, 4.0], start=3.0)
    rows = list(train(task, modes.accumulate(2), optimizer_of("vanilla", task, {"lr": 0.0}), epochs=1))
    assert [row.loss for row in rows] == [6.0, 12.0]


@pytest.mark.parametrize(("word", "moved"), [("accumulate:2", 3.0), ("accumulate:2:sum", 6.0)])
def test_a_window_moves_by_the_mean_or_by_the_sum_of_its_gradients(word: str, moved: float) -> None:
    task = one_weight([2.0, 4.0], start=0.0)
    list(train(task, modes.parse(word), optimizer_of("vanilla", task, {"lr": 1.0}), epochs=1))
    assert numbers(weights(task.model)) == [-moved]


def test_the_windows_of_the_rule_keep_what_is_kept_of_the_whole_window() -> None:
    task = one_weight([2.0, 4.0], start=0.0)
    list(train(task, modes.rule(0.5, 2), optimizer_of("vanilla", task, {"lr": 1.0}), epochs=2))
    # G: 3, then 3/2 + 3 = 4.5; w: -3, then -7.5; left in .grad: 2.25
    assert numbers([*weights(task.model), *gradients(task.model)]) == [-7.5, 2.25]


@pytest.mark.parametrize("kind", [list, Batches])
@pytest.mark.parametrize(("more", "end"), [([], {"epochs": 1}), ([2.0, 2.0, 2.0], {"steps": 6})], ids=["epoch", "run"])
def test_a_last_window_that_the_end_cuts_short_is_divided_by_its_own_length(
    kind: Callable[[list[float]], Iterable[float]], more: list[float], end: dict[str, Any]
) -> None:
    task = one_weight(kind([1.0, 3.0, 2.0, 6.0, 8.0, 4.0, *more]), start=0.0)
    list(train(task, modes.accumulate(4), optimizer_of("vanilla", task, {"lr": 1.0}), **end))
    assert numbers(weights(task.model)) == [-(1 + 3 + 2 + 6) / 4 - (8 + 4) / 2]


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
def test_training_lasts_for_the_epochs_or_the_steps_whichever_end_first(
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


@pytest.mark.parametrize("said", [3, 5, 6, 8, 20])
def test_a_length_that_lies_is_found_out_before_a_window_is_left_open(said: int) -> None:
    task = one_weight(Lying(slope_one(7), said))
    rows = train(task, modes.accumulate(4), optimizer_of("vanilla", task, {"lr": 0.1}), epochs=1)
    with pytest.raises(TaskError, match=rf"batches where len\(\) says {said}"):
        list(rows)


@pytest.mark.parametrize("said", [1, 9])
def test_a_length_that_lies_does_no_harm_where_no_window_needs_it(said: int) -> None:
    assert updates_of("zero_grad", Lying(slope_one(3), said), epochs=2) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("mode", ["zero_grad", "accumulate:2"])
@pytest.mark.parametrize("batches", [[], Batches([])], ids=["list", "unknown length"])
@pytest.mark.parametrize("end", [{"epochs": 1}, {"steps": 1}], ids=str)
def test_an_epoch_without_a_batch_is_an_error(mode: str, batches: Iterable[Any], end: dict[str, Any]) -> None:
    with pytest.raises(TaskError, match="epoch 0 has no batch"):
        updates_of(mode, batches, **end)


@pytest.mark.parametrize("end", [{"epochs": 2}, {"steps": 4}], ids=str)
@pytest.mark.parametrize("mode", ["zero_grad", "accumulate:2"])
def test_batches_that_can_be_passed_but_once_are_an_error_at_the_second_epoch(mode: str, end: dict[str, Any]) -> None:
    with pytest.raises(TaskError, match="epoch 1 has no batch; batches must be there at every pass: a list"):
        updates_of(mode, iter([1.0, 2.0, 3.0]), **end)


@pytest.mark.parametrize(
    ("loss", "complaint"),
    [
        (lambda model, x: model(x), r"must be a scalar( tensor)?, got a tensor of shape \(3, 1\); take its mean"),
        (
            lambda model, x: model(x).sum().item(),
            r"must be a scalar tensor, got a float; return that or a tuple \(sum, count\)",
        ),
        (lambda _model, _x: None, "must be a scalar tensor, got None"),
        (lambda model, x: [model(x).sum(), 3], r"got a list; return that or a tuple \(sum, count\)$"),
        (lambda _model, _x: (None, 3), r"\(sum, count\) with None for the sum; it must be a scalar tensor"),
        (lambda _model, _x: (3, 3), r"\(sum, count\) with an int for the sum"),
        (lambda model, x: (model(x), 3), r"with a tensor of shape \(3, 1\) for the sum; .*: the sum of the losses$"),
        (lambda model, x: model(x).sum().detach(), "has no graph behind it"),
        (lambda _model, x: x.sum(), "has no graph behind it"),
    ],
    ids=["vector", "float", "nothing", "list", "no sum", "number", "vector sum", "detached", "of the batch alone"],
)
def test_a_loss_that_backward_cannot_start_from_is_an_error_of_the_task(
    loss: Callable[[Any, Any], Any], complaint: str
) -> None:
    task = Task(nn.Linear(1, 1), [torch.ones(3, 1)], loss)
    with pytest.raises(TaskError, match=complaint):
        next(train(task, modes.zero_grad(), optimizer_of("SGD", task, {"lr": 0.1}), epochs=1))


def test_a_loss_of_one_element_is_a_scalar_whatever_its_shape() -> None:
    task = Task(nn.Linear(1, 1), [torch.ones(1, 1)], lambda model, x: model(x))
    (row,) = train(task, modes.zero_grad(), optimizer_of("SGD", task, {"lr": 0.1}), epochs=1)
    assert math.isfinite(row.loss)


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


def test_under_momentum_a_parameter_unused_in_a_step_is_skipped_if_none_and_moves_if_zeros() -> None:
    assert [moved_by_the_third_step(word, 0.9) for word in ("zero_grad", "zero_grad:fill")] == [False, True]


def test_without_momentum_zeros_move_nothing_either() -> None:
    assert [moved_by_the_third_step(word, 0.0) for word in ("zero_grad", "zero_grad:fill")] == [False, False]


def test_what_is_kept_moves_a_parameter_that_the_step_does_not_use() -> None:
    assert [moved_by_the_third_step(word, 0.0) for word in ("halve_grad", "no_zero_grad")] == [True, True]


# (h) A row is there when its step is done


@pytest.mark.parametrize(
    ("word", "left"),
    [("zero_grad", None), ("zero_grad:fill", 0.0), ("no_zero_grad", 4.0), ("halve_grad", 2.0), ("keep=-0.25", -1.0)],
)
def test_a_row_comes_after_its_update_when_grad_holds_what_is_kept(word: str, left: float | None) -> None:
    task = one_weight([4.0, 1.0], start=3.0)
    rows = train(task, modes.parse(word), optimizer_of("vanilla", task, {"lr": 0.5}), epochs=1)
    assert next(rows) == Row(step=0, update=0, epoch=0, loss=12.0)  # w = 3 before, and 3 - 0.5·4 = 1 after
    assert numbers([*weights(task.model), *gradients(task.model)]) == [1.0, left]


def test_amid_a_window_nothing_has_moved_and_grad_holds_the_part_summed_so_far() -> None:
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
def test_closed_early_and_taken_up_again_it_goes_on_as_if_it_had_not_been(
    word: str, optimizer: str, settings: dict[str, Any]
) -> None:
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
    length = training.length_of(task.batches)
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
    length = training.length_of(task.batches)
    assert length
    scheduler = optimizers.schedule(name, optimizer, training.updates_of(length, mode.every, epochs=epochs))
    return list(train(task, mode, optimizer, epochs=epochs, clip_norm=norm, scheduler=scheduler))


def test_clipping_and_a_linear_schedule_are_those_of_the_loop_by_hand() -> None:
    ours = scheduled(double("digits", batch_size=256), "zero_grad", 3)
    # LinearLR multiplies factor by factor, ours divides once: a rounding of float64 apart at each update.
    assert [row.loss for row in ours] == pytest.approx(
        by_hand_clipped(double("digits", batch_size=256), NORM, 3), rel=1e-12
    )


def test_micro_batches_clipped_and_scheduled_once_a_window_are_the_large_batch() -> None:
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


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_a_schedule_ends_at_0_after_the_last_update_and_takes_every_step_on_the_way(name: str) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = optimizers.schedule(name, optimizer, 8)
    rates = []
    for _ in range(9):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[0] == 0.5
    assert rates[4] == pytest.approx(0.25)
    assert rates[8] == pytest.approx(0, abs=1e-16)
    assert sorted(rates, reverse=True) == rates


def test_a_cosine_schedule_is_that_of_torch() -> None:
    ours = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    one, other = optimizers.schedule("cosine", ours, 10), torch.optim.lr_scheduler.CosineAnnealingLR(theirs, 10)
    for _ in range(10):
        ours.step()
        theirs.step()
        one.step()
        other.step()
        assert ours.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"], abs=1e-15)


def test_vanilla_has_no_schedule() -> None:
    vanilla = optimizers.build("vanilla", [torch.nn.Parameter(torch.zeros(1))], {"lr": 0.1})
    with pytest.raises(OptimizerError, match="schedule 'linear' needs an optimizer of torch"):
        optimizers.schedule("linear", vanilla, 3)


@pytest.mark.parametrize("length", [1, 4, 5, 8])
@pytest.mark.parametrize("every", [1, 3, 4])
@pytest.mark.parametrize("ends", [{"epochs": 3}, {"steps": 11}, {"epochs": 2, "steps": 7}, {"epochs": 9, "steps": 7}])
def test_the_updates_foretold_are_those_taken(length: int, every: int, ends: dict[str, Any]) -> None:
    made = tasks.build(tasks.find("noisy_line"), 1, {"samples": length})
    optimizer = optimizers.build("SGD", made.model.parameters(), {"lr": 0.01})
    rows = list(train(made, modes.rule(0.0, every), optimizer, **ends))
    assert training.updates_of(length, every, **ends) == rows[-1].update + 1


# Batches of unequal size, which tell how many items they have


def pairs(task: Task) -> Task:
    """Return the task with the loss (sum over the batch's rows, number of rows)."""
    return Task(
        task.model,
        task.batches,
        lambda model, batch: (nn.functional.mse_loss(model(batch[0]), batch[1], reduction="sum"), len(batch[0])),
    )


def unequal(sizes: Sequence[int] = (1, 5, 2, 7, 3, 4, 6)) -> Task:
    """Return a linear regression in float64, in batches of these sizes."""
    torch.manual_seed(5)
    batches = [(torch.randn(n, 3, dtype=torch.float64), torch.randn(n, 1, dtype=torch.float64)) for n in sizes]
    return Task.supervised(nn.Linear(3, 1).double(), batches, nn.functional.mse_loss)


def joined(task: Task, every: int) -> Task:
    """Return the task with each window of batches made one large batch."""
    batches: Any = list(task.batches)
    large = [
        (torch.cat([x for x, _ in window]), torch.cat([y for _, y in window]))
        for window in (batches[start : start + every] for start in range(0, len(batches), every))
    ]
    return Task(task.model, large, task.loss)


def trained_weights(task: Task, word: str, epochs: int = 3, **options: Any) -> Tensor:
    sgd = torch.optim.SGD(task.model.parameters(), 0.05)
    list(train(task, modes.parse(word), sgd, epochs=epochs, **options))
    return torch.cat([each.flatten() for each in weights(task.model)])


@pytest.mark.parametrize(("keep", "every"), [(0.0, 3), (0.5, 3), (1.0, 2), (-0.25, 4), (0.5, 1)])
def test_a_window_of_unequal_batches_that_tell_their_size_is_the_large_batch(keep: float, every: int) -> None:
    found = trained_weights(pairs(unequal()), f"keep={keep},every={every}")
    expected = trained_weights(joined(unequal(), every), f"keep={keep},every=1")
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-14)  # float64, another order of summing


def test_the_mean_of_means_is_not() -> None:
    expected = trained_weights(joined(unequal(), 3), "zero_grad")
    for wrong in (pairs(unequal()), unequal()):
        found = trained_weights(wrong, "accumulate:3:means")
        assert torch.dist(found, expected) / expected.norm() > 0.01
    assert torch.equal(found, trained_weights(unequal(), "accumulate:3"))  # where nothing is told it cannot be helped


def test_the_sum_of_unequal_batches_is_that_of_their_means() -> None:
    assert torch.equal(
        trained_weights(pairs(unequal()), "accumulate:3:sum"), trained_weights(unequal(), "accumulate:3:sum")
    )


def test_batches_of_one_size_need_not_tell_it() -> None:
    found, expected = (trained_weights(each, "accumulate:3") for each in (pairs(unequal([4] * 7)), unequal([4] * 7)))
    assert torch.allclose(found, expected, rtol=1e-13)


def test_clipping_sees_the_whole_mean() -> None:
    found = trained_weights(pairs(unequal()), "accumulate:3", clip_norm=0.1)
    assert torch.allclose(found, trained_weights(joined(unequal(), 3), "zero_grad", clip_norm=0.1), rtol=1e-12)


def test_a_row_tells_the_mean_loss_and_its_items() -> None:
    task = unequal()
    sgd = optimizer_of("SGD", task, {"lr": 0.05})
    rows = list(train(pairs(task), modes.parse("accumulate:3"), sgd, epochs=1))
    assert [row.items for row in rows] == [1, 5, 2, 7, 3, 4, 6]
    again = unequal()
    expected = by_hand(again, modes.parse("zero_grad"), optimizer_of("SGD", again, {"lr": 0.05}), epochs=1)
    assert rows[0].loss == pytest.approx(expected[0].loss, rel=1e-14)


def test_a_parameter_that_no_batch_of_a_window_uses_keeps_what_was_kept() -> None:
    model = nn.ModuleDict({"used": nn.Linear(1, 1, bias=False), "idle": nn.Linear(1, 1, bias=False)})
    idle: Any = model["idle"]
    idle.weight.grad = torch.ones(1, 1)
    task = Task(model, [1.0, 3.0], lambda model, x: (model["used"](torch.tensor([x])).sum() * x, x))
    sgd = torch.optim.SGD(model.parameters(), 0.1)
    list(train(task, modes.parse("keep=0.5,every=2"), sgd, epochs=1))
    assert idle.weight.grad.item() == 0.5


@pytest.mark.parametrize("count", [0, -1, math.nan, math.inf, True, "7", torch.ones(2)], ids=str)
def test_a_count_that_counts_nothing_is_refused(count: object) -> None:
    task = Task(nn.Linear(1, 1), [torch.ones(1, 1)], lambda model, x: (model(x).sum(), count))
    with pytest.raises(TaskError, match=r"\(sum, count\) with a count of .*must be a number greater than 0"):
        next(train(task, modes.parse("zero_grad"), optimizer_of("SGD", task, {"lr": 0.1}), epochs=1))


def test_a_loss_of_three_values_is_refused() -> None:
    task = Task(nn.Linear(1, 1), [torch.ones(1, 1)], lambda model, x: (model(x).sum(), 1, 2))
    with pytest.raises(TaskError, match=r"3 values; return a scalar tensor or a pair \(sum, count\)"):
        next(train(task, modes.parse("zero_grad"), optimizer_of("SGD", task, {"lr": 0.1}), epochs=1))


def test_a_count_of_nothing_late_in_training_is_refused_by_its_step() -> None:
    batches = [torch.ones(n, 1) for n in (1, 1, 0)]
    task = Task(nn.Linear(1, 1), batches, lambda model, x: (model(x).sum(), len(x)))
    with pytest.raises(TaskError, match="a count of 0 in step 2"):
        list(train(task, modes.parse("zero_grad"), optimizer_of("SGD", task, {"lr": 0.1}), epochs=1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("sizes", [[1, 8192], [8192, 1], [1, 1, 60000], [3] * 5], ids=str)
def test_in_half_precision_a_window_of_very_unequal_batches_is_their_mean(
    sizes: list[int], dtype: torch.dtype
) -> None:
    slopes = [16.0 - nth for nth in range(len(sizes))]  # 16 · 8192 is beyond float16
    model = one_weight([], start=0.01).model.to(dtype)
    task = Task(
        model,
        list(zip(slopes, sizes, strict=True)),
        lambda model, batch: (model.weight.sum() * batch[0] * batch[1], batch[1]),
    )
    sgd = torch.optim.SGD(model.parameters(), 1.0)
    list(train(task, modes.parse(f"accumulate:{len(sizes)}"), sgd, epochs=1))
    mean = sum(x * n for x, n in zip(slopes, sizes, strict=True)) / sum(sizes)
    (moved,) = weights(model)
    assert 0.01 - moved.item() == pytest.approx(mean, rel=0.02)  # the rounding of a few operations of 8 bits


def test_a_window_of_four_equal_batches_that_tell_it_has_the_bits_of_one_that_does_not() -> None:
    found, expected = (trained_weights(each, "accumulate:4") for each in (pairs(unequal([4] * 8)), unequal([4] * 8)))
    assert torch.equal(found, expected)  # all factors are powers of two


@pytest.mark.parametrize("word", ["zero_grad", "accumulate:2", "accumulate:2:sum", "accumulate:2:means"])
@pytest.mark.parametrize("first", [1.0, 2.0])
def test_a_pair_in_one_step_and_none_in_another_is_refused(first: float, word: str) -> None:
    def loss(model: Any, x: float) -> Any:
        made = model(torch.tensor([x])).sum()
        return (made, 1) if x == first else made

    task = Task(nn.Linear(1, 1), [1.0, 2.0], loss)
    with pytest.raises(TaskError, match="in one step and none in another, which is step 1"):
        list(train(task, modes.parse(word), optimizer_of("SGD", task, {"lr": 0.1}), epochs=1))


def test_a_count_may_be_a_tensor() -> None:
    task = Task(nn.Linear(1, 1), [torch.ones(4, 1)], lambda model, x: (model(x).sum(), torch.tensor(4)))
    (row,) = train(task, modes.parse("zero_grad"), optimizer_of("SGD", task, {"lr": 0.1}), epochs=1)
    assert row.items == 4
