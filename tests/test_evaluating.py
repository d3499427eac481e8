"""Evaluating: means that are checked by hand, and a training that does not notice it."""

from __future__ import annotations

import copy
import math
import random
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradlab import modes, tasks
from gradlab.engines.evaluating import Evaluator, weighted_mean
from gradlab.engines.loop import train
from gradlab.engines.resuming import TrainingState
from gradlab.errors import TaskError
from gradlab.tasks import Minibatches, Task
from gradlab.tasks.global_generators import global_states

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from gradlab.rows import Row

# A model that doubles its input, so that all values can be checked by hand


def doubling() -> nn.Linear:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(2.0)
    return model


def column(*values: float) -> Tensor:
    return torch.tensor([values]).T


TRAINING = [(column(1.0), column(2.0)), (column(1.0, 2.0), column(1.0, 4.0))]  # squared errors 0; 1, 0
VALIDATION = [(column(1.0, 1.0, 1.0, 1.0), column(0.0, 1.0, 2.0, 3.0)), (column(3.0), column(9.0))]  # 4, 1, 0, 1; 9


def squared(model: nn.Module, batch: Any) -> Any:
    return (model(batch[0]) - batch[1]).square()


def mean_loss(model: nn.Module, batch: Any) -> Any:
    return squared(model, batch).mean()


def counted_loss(model: nn.Module, batch: Any) -> Any:
    return squared(model, batch).sum(), len(batch[0])


def hits(model: nn.Module, batch: Any) -> Any:
    return (squared(model, batch) == 0).sum(), len(batch[0])


def evaluated(task: Task, most: int | None = None) -> dict[str, float]:
    return Evaluator(task, most).evaluate()


def test_the_validation_loss_is_the_mean_over_batches() -> None:
    assert evaluated(Task(doubling(), TRAINING, mean_loss, validation=VALIDATION)) == {
        "validation_loss": (1.5 + 9) / 2
    }


def test_a_loss_that_counts_items_is_the_mean_over_items() -> None:
    assert evaluated(Task(doubling(), TRAINING, counted_loss, validation=VALIDATION)) == {"validation_loss": 15 / 5}


def test_metrics_are_computed_on_the_validation_batches() -> None:
    task = Task(doubling(), TRAINING, counted_loss, validation=VALIDATION, metrics={"hits": hits})
    assert evaluated(task) == {"validation_loss": 3.0, "hits": 1 / 5}


def test_without_validation_the_training_batches_are_used() -> None:
    task = Task(doubling(), TRAINING, counted_loss, metrics={"hits": hits})
    assert evaluated(task) == {"training_set_loss": 1 / 3, "hits": 2 / 3}


def test_the_training_set_loss_ignores_validation() -> None:
    task = Task(doubling(), TRAINING, counted_loss, validation=VALIDATION)
    assert Evaluator(task).training_set_loss() == 1 / 3


def test_at_most_as_many_training_batches_as_asked_are_used() -> None:
    task = Task(doubling(), TRAINING, counted_loss, validation=VALIDATION)
    assert Evaluator(task, 1).training_set_loss() == 0
    assert evaluated(task, 1) == {"validation_loss": 3.0}
    assert evaluated(Task(doubling(), TRAINING, counted_loss), 1) == {"training_set_loss": 0}


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        (lambda *_: 3, 3.0),
        (lambda *_: 0.5, 0.5),
        (lambda *_: torch.tensor(2), 2.0),
        (lambda *_: torch.tensor([[2.5]]), 2.5),
        (lambda *_: np.float32(0.25), 0.25),
        (lambda *_: torch.tensor(True), 1.0),
        (lambda *_: (torch.tensor(3), 4), 0.75),
        (lambda *_: (3.0, torch.tensor(4)), 0.75),
        (lambda _, batch: (1.0, 0) if len(batch[0]) == 1 else (6.0, 3), 7 / 3),  # a batch without items
        (lambda *_: math.inf, math.inf),
    ],
)  # fmt: skip
def test_a_metric_may_return_any_number_or_a_sum_with_its_count(
    metric: Callable[[Any, Any], Any], value: float
) -> None:
    task = Task(doubling(), TRAINING, mean_loss, validation=VALIDATION, metrics={"metric": metric})
    assert evaluated(task)["metric"] == pytest.approx(value, rel=1e-15)


def test_a_metric_without_any_item_is_nan() -> None:
    task = Task(doubling(), TRAINING, mean_loss, metrics={"metric": lambda *_: (0.0, 0)})
    assert math.isnan(evaluated(task)["metric"])


@pytest.mark.parametrize(
    ("metric", "got"),
    [
        (lambda model, batch: model(batch[0]), r"got a tensor of shape \(4, 1\)"),
        (lambda *_: None, "got None"),
        (lambda *_: "0.9", "got a str"),
        (lambda *_: (1, 2, 3), r"got \(an int, an int, an int\)"),
        (lambda *_: (1.0, -1), r"got \(a float, an int\)"),
        (lambda *_: (1.0, math.inf), r"got \(a float, a float\)"),
        (lambda *_: (torch.ones(2), 2), r"got \(a tensor of shape \(2,\), an int\)"),
    ],
)
def test_a_metric_that_is_no_number_is_refused_at_once(metric: Callable[[Any, Any], Any], got: str) -> None:
    task = Task(doubling(), TRAINING, mean_loss, validation=VALIDATION, metrics={"metric": metric})
    with pytest.raises(TaskError, match=f"^metric 'metric' must return a number or a pair \\(sum, count\\), {got}; "):
        Evaluator(task).check()


def boom(*_: Any) -> float:
    raise ValueError("boom\nmore")


def test_a_metric_that_raises_is_named_at_once() -> None:
    task = Task(doubling(), TRAINING, mean_loss, validation=VALIDATION, metrics={"good": hits, "bad": boom})
    with pytest.raises(TaskError, match=r"^metric 'bad' raises ValueError: boom \(.*test_evaluating.py:\d+\)$"):
        Evaluator(task).check()


def test_a_validation_batch_of_another_width_is_named_at_once() -> None:
    task = Task(doubling(), TRAINING, mean_loss, validation=[(torch.ones(2, 3), torch.ones(2, 1))])
    with pytest.raises(TaskError, match=r"^the loss of a validation batch raises RuntimeError: mat1 and mat2 shapes"):
        Evaluator(task).check()


def test_a_later_error_keeps_its_type_and_names_the_metric() -> None:
    task = Task(doubling(), TRAINING, mean_loss, metrics={"bad": boom})
    with pytest.raises(ValueError, match="boom") as raised:
        Evaluator(task).evaluate()
    assert raised.value.__notes__ == ["raised by metric 'bad'"]


def backward(model: nn.Module, batch: Any) -> float:
    with torch.enable_grad():
        mean_loss(model, batch).backward()
    return 1.0


def scaling(model: nn.Module, _batch: Any) -> float:
    next(model.parameters()).data.mul_(2)
    return 1.0


@pytest.mark.parametrize(
    ("metric", "what"), [(backward, r"\.grad"), (scaling, "the model's weights")], ids=["backward", "scaling"]
)
@pytest.mark.parametrize("has_grad", [False, True])
def test_a_metric_that_changes_what_is_trained_is_refused(metric: Any, what: str, has_grad: bool) -> None:
    task = Task(doubling(), TRAINING, mean_loss, metrics={"mine": metric})
    if has_grad:
        mean_loss(task.model, TRAINING[1]).backward()
    with pytest.raises(TaskError, match=f"^metric 'mine' changes {what}, and so the training; use "):
        Evaluator(task).check()


def test_a_metric_may_compute_gradients() -> None:
    def norm(model: nn.Module, batch: Any) -> Any:
        with torch.enable_grad():
            (found,) = torch.autograd.grad(mean_loss(model, batch), list(model.parameters()))
        return found.square().sum()

    task = Task(doubling(), TRAINING, mean_loss, metrics={"norm": norm})
    with torch.no_grad():
        next(task.model.parameters()).fill_(math.nan)
    Evaluator(task).check()


def test_a_loss_that_is_no_number_is_refused() -> None:
    with pytest.raises(TaskError, match=r"the task's loss must be a scalar tensor, got a tensor of shape \(4, 1\)"):
        Evaluator(Task(doubling(), TRAINING, squared, validation=VALIDATION)).check()


@pytest.mark.parametrize(("validation", "which"), [(None, "training"), ([], "validation")])
def test_an_evaluation_without_batches_is_refused(validation: list[Any] | None, which: str) -> None:
    class Empty:
        def __iter__(self) -> Iterator[Any]:
            return iter([])

    task = Task(doubling(), Empty(), mean_loss, validation=None if validation is None else Empty())
    with pytest.raises(TaskError, match=f"^the {which} set has no batch"):
        Evaluator(task).check()


@pytest.mark.parametrize(
    ("parts", "mean"),
    [
        ([(1.0, 1), (2.0, 3)], 0.75),
        ([(1e16, 1), (1.0, 1), (-1e16, 1), (1.0, 1)], 0.5),  # a plain sum of floats loses the first 1.0
        ([(math.inf, 1), (1.0, 1)], math.inf),
        ([(math.inf, 1), (-math.inf, 1)], math.nan),
        ([(1e308, 1), (1e308, 1)], math.inf),
        ([(math.nan, 1), (1.0, 1)], math.nan),
    ],
)
def test_means_are_exact_and_say_what_is_not_finite(parts: list[tuple[float, float]], mean: float) -> None:
    assert weighted_mean(parts) == pytest.approx(mean, rel=0, nan_ok=True)


# Eval mode, and what an evaluation leaves as it was


class Noting(nn.Module):
    """Notes its modes, counts its calls in a buffer, and replaces another buffer."""

    calls: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1), nn.Dropout(0.5))
        self.inner[1].eval()  # frozen by the user
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("total", torch.zeros(1), persistent=False)
        self.seen: list[list[bool]] = []
        self.merged = False

    def train(self, mode: bool = True) -> Noting:
        self.merged = not mode  # as modules do that fold weights together for evaluation
        return super().train(mode)

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen.append([module.training for module in self.modules()])
        self.calls += 1
        self.total = self.total + 1
        outputs: Tensor = self.inner(inputs)
        return outputs


def test_models_are_evaluated_in_eval_mode_without_a_graph() -> None:
    model = Noting()
    graphs: list[bool] = []

    def metric(model: nn.Module, batch: Any) -> int:
        graphs.append(model(batch[0]).requires_grad)
        return 0

    evaluated(Task.supervised(model, TRAINING, nn.MSELoss(), metrics={"metric": metric}))
    assert len(model.seen) == 4
    assert not any(training for seen in model.seen for training in seen)
    assert graphs == [False, False]


def test_every_module_gets_its_own_mode_back() -> None:
    model = Noting()
    model.train()
    model.inner[1].eval()
    before = [module.training for module in model.modules()]
    evaluated(Task.supervised(model, TRAINING, nn.MSELoss()))
    assert [module.training for module in model.modules()] == before
    assert not model.merged
    model.eval()
    evaluated(Task.supervised(model, TRAINING, nn.MSELoss()))
    assert not any(module.training for module in model.modules())


def test_buffers_and_gradients_stay() -> None:
    model = Noting()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    total = model.total
    evaluated(Task.supervised(model, TRAINING, nn.MSELoss()))
    assert (model.calls.item(), model.total.item()) == (0, 0)
    assert model.total is total
    assert all(torch.equal(each.grad, torch.ones_like(each)) for each in model.parameters() if each.grad is not None)


def test_modes_and_buffers_come_back_after_an_error() -> None:
    model = Noting()
    task = Task.supervised(model, TRAINING, nn.MSELoss(), metrics={"metric": lambda m, b: m(b[0])})
    with pytest.raises(TaskError):
        evaluated(task)
    assert model.training
    assert model.calls.item() == 0


class Drawing:
    """Validation batches that draw from generators of their own and from all global ones."""

    def __init__(self, shared: torch.Generator) -> None:
        self.shared, self.own = shared, np.random.default_rng(3)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(2):
            noise = random.random() + np.random.random() + self.own.random()  # noqa: S311 - no secret
            yield torch.randn(4, 1) + noise, torch.randn(4, 1, generator=self.shared)


def drawing_task() -> Task:
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    generator = torch.Generator().manual_seed(1)
    x = torch.arange(7.0).unsqueeze(1) / 7
    return Task.supervised(
        nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5)),
        Minibatches(x, x, 2, generator),
        nn.MSELoss(),
        validation=Drawing(generator),
        metrics={"noise": lambda *_: torch.rand(()).item()},
    )


def states(task: Task) -> list[Any]:
    validation, batches = task.validation, task.batches
    assert isinstance(validation, Drawing)
    assert isinstance(batches, Minibatches)
    return [str(global_states()), str(batches.generator.get_state().tolist()), str(validation.own.bit_generator.state)]


def test_an_evaluation_leaves_all_generators_as_they_were() -> None:
    task = drawing_task()
    before = states(task)
    one = evaluated(task)
    assert states(task) == before
    assert evaluated(task) == one  # so a repeated one has the same values


def test_a_loader_that_draws_when_it_begins_disturbs_nothing() -> None:
    data = TensorDataset(torch.ones(6, 1), torch.ones(6, 1))
    task = Task.supervised(doubling(), DataLoader(data, shuffle=True), nn.MSELoss(), validation=DataLoader(data))
    before = torch.get_rng_state()
    evaluated(task)
    Evaluator(task).check()
    Evaluator(task).training_set_loss()
    assert torch.equal(torch.get_rng_state(), before)


# Within a training


def shuffled_with_dropout() -> Task:
    torch.manual_seed(2)
    x = torch.randn(11, 2)
    loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=2, shuffle=True)
    model = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.3), nn.Linear(3, 1))
    return Task.supervised(model, loader, nn.MSELoss(), metrics={"noise": lambda *_: torch.rand(())})


def with_workers() -> Task:
    torch.manual_seed(3)
    x = torch.randn(8, 2)
    data = TensorDataset(x, x.sum(1, keepdim=True))
    loader = DataLoader(data, batch_size=2, shuffle=True, num_workers=1, persistent_workers=True)
    return Task.supervised(nn.Linear(2, 1), loader, nn.MSELoss())


def echo() -> Task:  # its loss keeps a state in a closure
    return tasks.build(tasks.find("echo"), 1, {"length": 12, "chunk": 3, "hidden": 3})


RNG = random.Random()  # noqa: S311 - no secret


class Noise:
    """Batches that draw from a global generator, which the task seeds."""

    def __iter__(self) -> Iterator[Any]:
        yield from ((column(x), column(RNG.random())) for x in (1.0, 2.0, 3.0))


def drawing_from_a_global() -> Task:
    RNG.seed(4)
    return Task.supervised(doubling(), Noise(), nn.MSELoss())


def damped(calls: dict[str, int], model: nn.Module, batch: Any) -> Any:
    calls["n"] += 1
    return mean_loss(model, batch) / calls["n"]


class Damped(nn.Module):
    """A loss that counts its calls in an attribute and in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.all = 0, [0]

    def loss(self, model: nn.Module, batch: Any) -> Any:
        self.calls += 1
        return mean_loss(model, batch) / self.calls


class Counting:
    def __init__(self) -> None:
        self.calls, self.all = 0, [0]

    def loss(self, model: nn.Module, batch: Any) -> Any:
        self.calls += 1
        self.all.append(self.calls)
        return mean_loss(model, batch) / len(self.all) / self.calls

    __call__ = loss


class Remembering(nn.Linear):
    """Keeps its last output in an attribute."""

    def forward(self, inputs: Tensor) -> Tensor:
        self.h = super().forward(inputs).mean().detach() + getattr(self, "h", 0.0)
        return super().forward(inputs) * self.h


def closing() -> Task:
    calls = {"n": 0}
    return Task(doubling(), TRAINING, lambda model, batch: damped(calls, model, batch))


WITH_STATE: list[Callable[[], Task]] = [
    drawing_from_a_global,
    closing,
    lambda: Task(doubling(), TRAINING, partial(damped, {"n": 0})),
    lambda: Task(doubling(), TRAINING, Damped().loss),
    lambda: Task(doubling(), TRAINING, Counting().loss),
    lambda: Task(doubling(), TRAINING, Counting()),
    lambda: Task.supervised(Remembering(1, 1), TRAINING, nn.MSELoss()),
]
TASKS = [shuffled_with_dropout, drawing_task, echo, with_workers]


def trained(
    make: Callable[[], Task],
    every: int | None = None,
    *,
    evaluate: bool = True,
    mode: str = "halve_grad",
    epochs: int | None = None,
    steps: int | None = None,
) -> tuple[list[Row], list[tuple[int, int, int, dict[str, float]]]]:
    """Return the rows of a training, and its evaluations as position and values."""
    task = make()
    state = TrainingState(task, torch.optim.SGD(task.model.parameters(), 0.1), None)
    evaluator, cursor = Evaluator(task, steps), state.cursor
    found: list[tuple[int, int, int, dict[str, float]]] = []
    if evaluate:
        cursor.evaluate_every, cursor.epoch_length = every, tasks.epoch_length(task.batches)
        cursor.on_evaluation = lambda epoch: found.append((cursor.step, cursor.update, epoch, evaluator.evaluate()))
    return list(train(state.task, modes.load(mode), state.optimizer, cursor=cursor, epochs=epochs, steps=steps)), found


@pytest.mark.parametrize("every", [None, 1, 2, 3])
@pytest.mark.parametrize("make", TASKS)
def test_rows_are_the_same_with_evaluations(make: Callable[[], Task], every: int | None) -> None:
    rows, evaluations = trained(make, every, steps=9)
    assert rows == trained(make, evaluate=False, steps=9)[0]
    assert evaluations


@pytest.mark.parametrize("make", WITH_STATE)
def test_rows_do_not_change_if_code_keeps_a_state(make: Callable[[], Task]) -> None:
    def made() -> Task:
        torch.manual_seed(5)
        return make()

    assert trained(made, 1, steps=9)[0] == trained(made, evaluate=False, steps=9)[0]
    assert Evaluator(made()).check() == []


def test_a_check_names_values_of_state_that_is_not_restored() -> None:
    values = iter(range(9))
    metrics = {"hits": hits, "next": lambda *_: next(values)}
    assert Evaluator(Task(doubling(), TRAINING, mean_loss, metrics=metrics)).check() == ["next"]


def test_validation_batches_that_are_no_pairs_are_named() -> None:
    task = Task.supervised(doubling(), TRAINING, nn.MSELoss(), validation=[{"x": column(1.0), "y": column(1.0)}])
    with pytest.raises(TaskError, match=r"^Task.supervised needs validation batches \(inputs, targets\), got a dict"):
        Evaluator(task).check()


@pytest.mark.parametrize(
    ("every", "ends", "places"),
    [
        (None, {"epochs": 2}, [(4, 1), (8, 2)]),
        (None, {"steps": 8}, [(4, 1), (8, 2)]),
        (None, {"steps": 6}, [(4, 1), (6, 1)]),
        (None, {"steps": 3}, [(3, 0)]),
        (3, {"epochs": 2}, [(3, 0), (6, 1), (8, 2)]),
        (2, {"epochs": 2}, [(2, 0), (4, 1), (6, 1), (8, 2)]),
        (4, {"steps": 8}, [(4, 1), (8, 2)]),
        (100, {"steps": 6}, [(6, 1)]),
    ],
)
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("mode", ["zero_grad", "accumulate:2"])
def test_evaluations_come_after_epochs_or_steps_and_at_the_end(
    every: int | None, ends: dict[str, int], places: list[tuple[int, int]], known: bool, mode: str
) -> None:
    class Unknown:
        def __iter__(self) -> Iterator[Any]:
            return iter(drawing_task().batches)

    def make() -> Task:
        task = drawing_task()
        return task if known else Task(task.model, Unknown(), task.loss, validation=task.validation)

    _, evaluations = trained(make, every, mode=mode, epochs=ends.get("epochs"), steps=ends.get("steps"))
    if not known and "steps" in ends:  # whether the last epoch is complete cannot be known
        places = [*places[:-1], (places[-1][0], (places[-1][0] - 1) // 4)]
    assert [(step, epoch) for step, _, epoch, _ in evaluations] == places
    each = 2 if mode == "accumulate:2" else 1
    at_end = places[-1][0]
    updates = [step // 4 * (4 // each) + step % 4 // each for step, _ in places]  # with windows that have ended
    updates[-1] = at_end // 4 * (4 // each) + math.ceil(at_end % 4 / each)  # the last window ends with the training
    assert [update for _, update, _, _ in evaluations] == updates


@pytest.mark.parametrize("kind", ["list", "own_iterator"])
def test_batches_that_are_their_own_iterator_are_refused(kind: str) -> None:
    class Own:
        def __iter__(self) -> Own:
            self.left = iter(TRAINING)
            return self

        def __next__(self) -> Any:
            return next(self.left)

    batches = Own() if kind == "own_iterator" else TRAINING
    evaluator = Evaluator(Task(doubling(), batches, counted_loss))
    if kind == "list":
        assert evaluator.training_set_loss() == 1 / 3
        return
    with pytest.raises(TaskError, match="the batches are their own iterator, so an evaluation would use up"):
        evaluator.training_set_loss()


@pytest.mark.parametrize("every", [None, 1, 2, 3])
@pytest.mark.parametrize("make", TASKS[:2])
@pytest.mark.parametrize("stop", range(1, 10))
def test_resuming_repeats_the_evaluation_of_its_step(make: Callable[[], Task], every: int | None, stop: int) -> None:
    """Train, take a snapshot after `stop` rows, and resume it in a training that was just built."""
    step = partial(trained, make, every, steps=9)
    _, expected = step()

    def started(found: list[Any]) -> tuple[TrainingState, Iterator[Row]]:
        task = make()
        state = TrainingState(task, torch.optim.SGD(task.model.parameters(), 0.1), None)
        evaluator, cursor = Evaluator(task, 9), state.cursor
        cursor.evaluate_every, cursor.epoch_length = every, tasks.epoch_length(task.batches)
        cursor.on_evaluation = lambda epoch: found.append((cursor.step, cursor.update, epoch, evaluator.evaluate()))
        return state, train(state.task, modes.load("halve_grad"), state.optimizer, steps=9, cursor=cursor)

    before: list[Any] = []
    state, rows = started(before)
    for _ in range(stop):
        next(rows)
    snapshot = copy.deepcopy(state.snapshot())
    assert all(each[0] < stop for each in before)
    after: list[Any] = []
    resumed, rest = started(after)
    random.seed(99)
    torch.manual_seed(99)
    resumed.restore(snapshot)
    list(rest)
    assert before + after == expected
