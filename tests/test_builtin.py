"""The built-in tasks: their data, models and losses."""

from __future__ import annotations

import re
import sys
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradlab import modes, tasks
from gradlab.engines import loop
from gradlab.errors import TaskError
from gradlab.optimizers import build
from gradlab.tasks import Task
from gradlab.tasks.hashing import hash_of
from tests.table import TASKS
from tests.test_loading import built, first_batch

each_task = pytest.mark.parametrize(("name", "options"), TASKS, ids=[name for name, _ in TASKS])


def all_of(batches: Any) -> tuple[Tensor, Tensor]:
    """Return the rows of one pass, in the order of the first input."""
    inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    order = torch.argsort(inputs[:, 0])
    return inputs[order], targets[order]


# The built-in tasks


def test_straight_line_has_forty_points_of_a_line_in_one_batch() -> None:
    task = built("straight_line")
    assert isinstance(task.batches, list)
    ((x, y),) = task.batches
    assert (x.shape, y.shape) == ((40, 1), (40, 1))
    assert (x.min().item(), x.max().item() < 0.8) == (0.0, True)
    # float32 holds 24 bits: an error of 2⁻²⁴ of a number below 1, twice for a product and a sum.
    expected = torch.tensor([[0.02 * i] for i in range(40)], dtype=torch.float64)
    assert torch.allclose(x.double(), expected, rtol=0, atol=2**-23)
    assert torch.allclose(y.double(), 0.7 * expected + 0.3, rtol=0, atol=2**-23)


@pytest.mark.parametrize(("loss", "criterion"), [("l1", nn.L1Loss()), ("mse", nn.MSELoss())])
def test_straight_line_is_judged_by_l1_or_mse(loss: str, criterion: nn.Module) -> None:
    task = built("straight_line", loss=loss)
    x, y = first_batch(task)
    assert torch.equal(task.loss(task.model, (x, y)), criterion(task.model(x), y))


def test_straight_line_is_judged_by_l1_where_nothing_is_said() -> None:
    task, explicit = built("straight_line"), built("straight_line", loss="l1")
    assert torch.equal(task.loss(task.model, first_batch(task)), explicit.loss(explicit.model, first_batch(explicit)))


def test_straight_line_without_that_loss_says_which_there_are() -> None:
    with pytest.raises(TaskError, match=r"unknown loss 'mae'.* Known: l1, mse"):
        built("straight_line", loss="mae")


def test_digits_are_all_of_scikit_learns_digits_between_0_and_1() -> None:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    batches = list(built("digits", batch_size=100).batches)
    seen = Counter(
        (tuple(row.tolist()), label.item())
        for inputs, targets in batches
        for row, label in zip(inputs, targets, strict=True)
    )
    assert [len(inputs) for inputs, _ in batches] == [100] * 17 + [97]  # 1,797 in all
    assert seen == Counter((tuple((row / 16).tolist()), int(label)) for row, label in zip(pixels, labels, strict=True))


def test_digits_are_classified_by_an_mlp_by_cross_entropy() -> None:
    task = built("digits", hidden=5, batch_size=7)
    x, y = first_batch(task)
    shapes = [tuple(each.shape) for each in task.model.parameters()]
    assert shapes == [(5, 64), (5,), (10, 5), (10,)]
    chosen = torch.log_softmax(task.model(x), dim=1)[torch.arange(7), y]
    assert torch.allclose(task.loss(task.model, (x, y)), -chosen.mean())  # float32, as torch computes it


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from gradlab.tasks import builtin

    builtin._digits.cache_clear()  # an earlier test may have read them
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(TaskError, match=re.escape("needs scikit-learn: pip install scikit-learn")):
        built("digits")


@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [1] * 10), (4, [4, 4, 2]), (10, [10]), (99, [10])])
def test_noisy_line_has_its_samples_in_batches_of_that_size(batch_size: int, sizes: list[int]) -> None:
    task = built("noisy_line", inputs=3, samples=10, batch_size=batch_size)
    shapes = [(tuple(x.shape), tuple(y.shape)) for x, y in task.batches]
    assert shapes == [((size, 3), (size, 1)) for size in sizes]
    assert [tuple(each.shape) for each in task.model.parameters()] == [(1, 3), (1,)]


def test_noisy_line_by_default_has_forty_points_one_by_one() -> None:
    assert [(len(x), x.shape[1]) for x, _ in built("noisy_line").batches] == [(1, 1)] * 40


def test_noisy_line_without_noise_is_a_line() -> None:
    x, y = all_of(built("noisy_line", inputs=2, samples=50, noise=0.0).batches)
    ones = torch.ones(50, 1)
    solution = torch.linalg.lstsq(torch.cat([x, ones], dim=1).double(), y.double()).solution
    left = y.double() - torch.cat([x, ones], dim=1).double() @ solution
    assert left.abs().max().item() < 1e-5  # what float32 rounds off numbers of order 1


def test_noisy_line_has_noise_of_the_size_that_is_asked_for() -> None:
    x, y = all_of(built("noisy_line", samples=4000, noise=3.0).batches)
    design = torch.cat([x, torch.ones(4000, 1)], dim=1).double()
    left = y.double() - design @ torch.linalg.lstsq(design, y.double()).solution
    # The standard error of a standard deviation of n numbers is about σ/√(2n) = 0.034; five of them.
    assert left.std().item() == pytest.approx(3.0, abs=0.17)


def test_noisy_line_is_judged_by_the_mean_squared_error() -> None:
    task = built("noisy_line", batch_size=5)
    x, y = first_batch(task)
    assert torch.equal(task.loss(task.model, (x, y)), ((task.model(x) - y) ** 2).mean())


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("noisy_line", "inputs"),
        ("noisy_line", "samples"),
        ("noisy_line", "batch_size"),
        ("digits", "hidden"),
        ("digits", "batch_size"),
        ("echo", "length"),
        ("echo", "chunk"),
        ("mixed_lengths", "short"),
        ("heads_in_turn", "heads"),
    ],
)
@pytest.mark.parametrize("value", [0, -1])
def test_a_size_below_one_is_refused(name: str, option: str, value: int) -> None:
    with pytest.raises(TaskError, match=f"option {option} must be at least 1, got {value}"):
        built(name, **{option: value})


def test_linear_4x3_has_one_sample_a_batch_in_a_fixed_order() -> None:
    task = built("linear_4x3", samples=7)
    assert [(tuple(x.shape), tuple(y.shape)) for x, y in task.batches] == [((4,), (3,))] * 7
    assert hash_of(list(task.batches)) == hash_of(list(task.batches))
    assert [tuple(each.shape) for each in task.model.parameters()] == [(3, 4), (3,)]  # W transposed, and b


def test_linear_4x3_sums_the_squared_error_over_outputs() -> None:
    task = built("linear_4x3")
    x, y = first_batch(task)
    weight, bias = task.model.parameters()
    by_hand = sum((sum(weight[out, at] * x[at] for at in range(4)) + bias[out] - y[out]) ** 2 for out in range(3))
    assert torch.allclose(task.loss(task.model, (x, y)), torch.as_tensor(by_hand))  # float32, in another order


def test_linear_4x3_without_noise_is_linear() -> None:
    task = built("linear_4x3", samples=50, noise=0.0)
    x, y = (torch.stack(list(part)).double() for part in zip(*task.batches, strict=True))
    design = torch.cat([x, torch.ones(50, 1)], dim=1)
    solution = torch.linalg.lstsq(design, y).solution
    assert (y - design @ solution).abs().max().item() < 1e-5  # what float32 rounds off numbers of order 1
    weight, bias = task.model.parameters()
    start = torch.cat([weight.T, bias.unsqueeze(0)])
    assert (solution - start).abs().max().item() > 0.5


# As usually printed, these do not run


def test_a_loss_of_three_numbers_has_no_gradient_of_its_own() -> None:
    weight, bias = torch.randn(4, 3, requires_grad=True), torch.randn(3, requires_grad=True)
    loss: Any = (torch.randn(4) @ weight + bias - torch.randn(3)) ** 2
    with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar outputs"):
        loss.backward()
    loss.sum().backward()  # the repair


def test_descent_by_hand_cannot_clear_a_missing_gradient() -> None:
    w = torch.randn(3, requires_grad=True)
    with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'zero_'"):
        w.grad.zero_()  # type: ignore[union-attr]  # that is the fault


def test_descent_by_hand_changes_a_leaf_only_under_no_grad() -> None:
    w = torch.randn(3, requires_grad=True)
    loss: Any = (w**2).sum()
    loss.backward()
    assert w.grad is not None
    with pytest.raises(
        RuntimeError, match="a leaf Variable that requires grad is being used in an in-place operation"
    ):
        w -= 0.1 * w.grad
    with torch.no_grad():  # the repair
        w -= 0.1 * w.grad


def passes(task: Task) -> str:
    return hash_of([task.model.state_dict(), list(task.batches), list(task.batches)])


@each_task
def test_one_seed_gives_the_same_weights_and_batches(name: str, options: dict[str, object]) -> None:
    one = passes(built(name, 5, **options))
    torch.rand(3)  # whatever was drawn in between
    assert passes(built(name, 5, **options)) == one


@each_task
def test_another_seed_gives_other_weights(name: str, options: dict[str, object]) -> None:
    states = [built(name, seed, **options).model.state_dict() for seed in (5, 6)]
    assert hash_of(states[0]) != hash_of(states[1])


@pytest.mark.parametrize(("name", "options"), [TASKS[0], TASKS[2]], ids=["noisy_line", "digits"])
def test_another_seed_gives_other_batches(name: str, options: dict[str, object]) -> None:
    batches = [first_batch(built(name, seed, **options)) for seed in (5, 6)]
    assert hash_of(batches[0]) != hash_of(batches[1])


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


def test_a_step_gives_a_gradient_to_its_head_only() -> None:
    task = heads_in_turn(heads=3)
    batches = list(task.batches)
    task.loss(task.model, batches[1]).backward()
    assert [head_of(task, nth).grad is None for nth in range(3)] == [True, False, True]


def test_the_targets_of_a_head_are_linear_without_noise() -> None:
    one_round = list(heads_in_turn(heads=3, inputs=4, noise=0.0).batches)[:3]
    assert [head for head, _, _ in one_round] == [0, 1, 2]
    for _, x, y in one_round:
        solution = torch.linalg.lstsq(x.double(), y.double()).solution
        assert (x.double() @ solution - y.double()).abs().max().item() < 1e-5  # what float32 rounds off


def trajectory(word: str, momentum: float, weight_decay: float) -> list[Tensor]:
    """Return the weight of head 0 after each of four steps, of which the first alone uses it."""
    task = heads_in_turn(heads=4, rounds=1)
    optimizer = build("SGD", task.model.parameters(), {"lr": 0.1, "momentum": momentum, "weight_decay": weight_decay})
    return [head_of(task, 0).detach().clone() for _ in loop.train(task, modes.parse(word), optimizer, epochs=1)]


def test_an_unused_head_stays_where_it_is_under_none() -> None:
    first, *rest = trajectory("zero_grad", momentum=0.5, weight_decay=0.25)
    assert [torch.equal(first, each) for each in rest] == [True] * 3


def test_a_head_never_used_has_no_gradient_under_zeros() -> None:
    task = heads_in_turn(heads=4, rounds=1)
    optimizer = build("SGD", task.model.parameters(), {"lr": 0.1, "weight_decay": 0.25})
    start = head_of(task, 3).detach().clone()
    rows = loop.train(task, modes.parse("zero_grad:fill"), optimizer, epochs=1)
    next(rows)
    assert torch.equal(head_of(task, 3), start)


def test_weight_decay_shrinks_an_unused_head_under_zeros() -> None:
    first, *rest = trajectory("zero_grad:fill", momentum=0.0, weight_decay=0.25)
    # w ← w − lr·weight_decay·w; float32 rounds at 2⁻²⁴ of the weight a step.
    expected = [first * (1 - 0.1 * 0.25) ** nth for nth in (1, 2, 3)]
    close = [torch.allclose(each, want, rtol=1e-6, atol=0) for each, want in zip(rest, expected, strict=True)]
    assert close == [True] * 3


def test_momentum_moves_an_unused_head_under_zeros() -> None:
    start = head_of(heads_in_turn(heads=4, rounds=1), 0).detach()
    first, *rest = trajectory("zero_grad:fill", momentum=0.5, weight_decay=0.0)
    # After the step v come v/2, v/4, v/8; float32 rounds at 2⁻²⁴ of the weight, below 1, a step.
    v = first - start
    expected = [first + v * share for share in (0.5, 0.75, 0.875)]
    close = [torch.allclose(each, want, rtol=0, atol=1e-6) for each, want in zip(rest, expected, strict=True)]
    assert close == [True] * 3


# One sequence in chunks


def test_echo_is_one_sequence_and_the_same_delayed() -> None:
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

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.task.model.zero_grad()


def test_gradients_of_the_chunks_add_up_to_that_of_the_sum() -> None:
    task = doubled(length=50, chunk=7)
    unrolled(task, cut=True).backward()
    whole = gradient(task).clone()
    task.model.zero_grad()
    recording = Recording(task)
    list(loop.train(task, modes.parse("accumulate:8:sum"), recording, epochs=1))
    (accumulated,) = recording.seen
    assert torch.allclose(accumulated, whole, rtol=0, atol=1e-12 * whole.norm().item())  # float64
    each = Recording(task)
    list(loop.train(task, modes.parse("zero_grad"), each, epochs=1))
    assert torch.allclose(sum(each.seen, torch.zeros_like(whole)), whole, rtol=0, atol=1e-12 * whole.norm().item())


def test_the_gradient_through_the_cuts_differs() -> None:
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


def test_short_sequences_count_down_and_long_ones_up() -> None:
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


def test_one_seed_gives_the_same_table_and_sequences() -> None:
    def passes(seed: int) -> str:
        task = built("mixed_lengths", seed)
        return hash_of([task.model.state_dict(), list(task.batches), list(task.batches)])

    one = passes(5)
    torch.rand(3)  # whatever was drawn in between
    assert (passes(5), passes(6) != one) == (one, True)


def test_mixed_lengths_sums_and_counts_the_cross_entropy() -> None:
    task = built("mixed_lengths")
    tokens = next(iter(task.batches))
    logits = next(task.model.parameters())
    total, count = task.loss(task.model, tokens)
    by_hand = -sum(torch.log_softmax(logits[before], 0)[after] for before, after in pairwise(tokens.tolist()))
    assert count == len(tokens) - 1
    assert torch.allclose(total, torch.as_tensor(by_hand), rtol=1e-5)  # float32, in another order


# two_weights, which `gradlab explore` shows; tests/pages/ compares them


def test_full_batches_of_two_weights_have_these_curvatures() -> None:
    x, _ = first_batch(built("two_weights", batch_size=16, curvature=20.0))
    values, vectors = torch.linalg.eigh(2 / 16 * x.T @ x)
    assert torch.allclose(values, torch.tensor([1.0, 20.0], dtype=torch.float64), rtol=1e-14)
    assert torch.allclose(vectors[:, 1].abs(), torch.tensor([0.8, 0.6], dtype=torch.float64), rtol=1e-14)


def test_two_weights_without_noise_has_its_minimum_at_1_and_half() -> None:
    task = built("two_weights", noise=0.0, batch_size=16)
    x, y = first_batch(task)
    assert torch.allclose(torch.linalg.lstsq(x, y).solution.T, torch.tensor([[1.0, 0.5]], dtype=torch.float64))


def test_two_weights_starts_where_asked_in_float64() -> None:
    (weight,) = built("two_weights", w1=0.1, w2=-2.7).model.parameters()
    assert torch.equal(weight, torch.tensor([[0.1, -2.7]], dtype=torch.float64))


def test_rounds_repeat_the_samples_in_a_new_order() -> None:
    task = built("two_weights", batch_size=4, rounds=3)
    batches = list(task.batches)
    assert len(task.batches) == len(batches) == 12  # type: ignore[arg-type]  # it has a length
    rounds = [torch.cat([x for x, _ in batches[at : at + 4]]) for at in (0, 4, 8)]
    assert torch.equal(rounds[0].sort(dim=0).values, rounds[1].sort(dim=0).values)
    assert not torch.equal(rounds[0], rounds[1])
    assert not torch.equal(rounds[1], rounds[2])


@pytest.mark.parametrize(
    ("option", "value"), [("curvature", 0.0), ("curvature", float("nan")), ("rounds", 0), ("batch_size", 0)]
)
def test_two_weights_refuses_what_cannot_be_trained(option: str, value: float) -> None:
    with pytest.raises(TaskError, match=f"task option {option} must be"):
        tasks.build(tasks.find("two_weights"), 0, {option: value})
