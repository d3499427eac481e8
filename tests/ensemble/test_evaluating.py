"""Evaluations of a stack: the values of every run alone, without a trace in the training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradlab import modes, optimizers
from gradlab.engines import ensemble, loop
from gradlab.engines.cursor import Cursor
from gradlab.engines.ensemble import CannotStackError, Member, SeedTask, StackedEvaluator, StackedTraining
from gradlab.engines.ensemble import evaluating as stacked_evaluating
from gradlab.engines.evaluating import Evaluator
from gradlab.errors import TaskError
from gradlab.tasks import Minibatches, Task
from gradlab.tasks.global_generators import seed_everything

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Found = list[tuple[int, Any]]

SEEDS, WORDS = (3, 4), ("zero_grad", "halve_grad", "no_zero_grad")
STEPS = 11  # two epochs of 4 batches, and 3 batches
NEAR = 1e-10  # in double precision; stacked kernels sum in another order


class Halved(nn.Module):
    """Halves its input in training, so that eval mode matters."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / 2 if self.training else x


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), Halved(), nn.Linear(5, 2)).double()


def data(samples: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(samples, 3, dtype=torch.float64), torch.randn(samples, 2, dtype=torch.float64)


def closeness(model: Any, batch: Any) -> Any:
    """Return the share of outputs within 1 of the target."""
    return ((model(batch[0]) - batch[1]).abs() < 1).double().mean()


def counted(model: Any, batch: Any) -> Any:
    return (model(batch[0]) - batch[1]).abs().sum(), len(batch[0])


def of_numpy(model: Any, batch: Any) -> float:
    """Return what vmap cannot compute."""
    return float(np.abs(model(batch[0]).detach().numpy()).max())


def listed(seed: int) -> Task:  # noqa: ARG001 - the weights come from the seeded generator
    """Batches of 3 rows, and one row at the end."""
    x, y = data()
    batches = [(x[at : at + 3], y[at : at + 3]) for at in range(0, 10, 3)]
    return Task.supervised(net(), batches, nn.MSELoss(), metrics={"closeness": closeness, "distance": counted})


def shuffled(seed: int) -> Task:
    x, y = data()
    batches = Minibatches(x, y, 3, torch.Generator().manual_seed(seed))
    return Task.supervised(net(), batches, nn.MSELoss(), metrics={"closeness": closeness})


def of_loaders(seed: int) -> Task:  # noqa: ARG001 - the weights come from the seeded generator
    """Draw both sets from the global generator."""
    train, validation = (DataLoader(TensorDataset(*data()), 3, shuffle=True) for _ in range(2))
    return Task.supervised(net(), train, nn.MSELoss(), validation=validation, metrics={"distance": counted})


def of_loader(seed: int) -> Task:
    """Draw the validation set from the global generator, but not the training set."""
    validation = DataLoader(TensorDataset(*data()), 3, shuffle=True)
    return Task.supervised(net(), listed(seed).batches, nn.MSELoss(), validation=validation)


def sums(seed: int) -> Task:
    """Return a loss per row as (sum, count)."""
    criterion = nn.MSELoss(reduction="sum")
    return Task(
        net(), listed(seed).batches, lambda model, batch: (criterion(model(batch[0]), batch[1]), len(batch[0]))
    )


class Drawn:
    """Batches that are drawn one by one from the global generator."""

    def __iter__(self) -> Iterator[Any]:
        return (data(3) for _ in range(4))


def drawn(seed: int) -> Task:  # noqa: ARG001 - the weights come from the seeded generator
    return Task.supervised(net(), Drawn(), nn.MSELoss())


def drawn_no_vmap(seed: int) -> Task:  # noqa: ARG001 - the same
    return Task.supervised(net(), Drawn(), nn.MSELoss(), metrics={"largest": of_numpy})


def no_vmap(seed: int) -> Task:
    return Task.supervised(net(), listed(seed).batches, nn.MSELoss(), metrics={"largest": of_numpy})


def of_its_seed(seed: int) -> Task:
    """Have a metric that depends on the seed."""
    made = listed(seed)
    return Task.supervised(net(), made.batches, nn.MSELoss(), metrics={"seed": lambda *_: seed})


def unequal(seed: int) -> Task:
    """Have other shapes in every seed."""
    made = data(seed)
    return Task.supervised(net(), [made, made], nn.MSELoss(), metrics={"closeness": closeness})


def built(make: Callable[[int], Task], seed: int) -> Task:
    seed_everything(seed)
    return make(seed)


def stack_of(make: Callable[[int], Task], seeds: Sequence[int] = SEEDS) -> StackedTraining:
    tasks = [SeedTask(built(make, seed)) for seed in seeds]
    members = [Member(modes.parse(word), nth) for word in WORDS for nth in range(len(seeds))]
    return StackedTraining(tasks, members, lambda parameters: optimizers.build("SGD", parameters, {"lr": 0.05}))


def evaluated(cursor: Cursor, evaluate: Callable[[], Any], every: int | None) -> Found:
    """Return the list that the evaluations of a training go to."""
    found: Found = []
    cursor.evaluate_every = every
    cursor.on_evaluation = lambda _: found.append((cursor.step, evaluate()))
    return found


def alone(make: Callable[[int], Task], word: str, seed: int, every: int | None) -> tuple[list[float], Found, float]:
    """Return losses, evaluations and training_set_loss of a run in the plain loop."""
    task, cursor = built(make, seed), Cursor()
    evaluator = Evaluator(task, STEPS)
    found = evaluated(cursor, evaluator.evaluate, every)
    optimizer = optimizers.build("SGD", list(task.model.parameters()), {"lr": 0.05})
    rows = list(loop.train(task, word, optimizer, steps=STEPS, cursor=cursor))
    return [row.loss for row in rows], found, evaluator.training_set_loss()


@pytest.mark.parametrize("seeds", [SEEDS, SEEDS[:1]], ids=["seeds", "seed"])
@pytest.mark.parametrize(
    ("make", "every", "is_stacked"),
    [
        (listed, None, True),
        (listed, 3, True),
        (shuffled, 3, True),
        (of_loaders, None, True),
        (of_loaders, 3, True),
        (of_loader, None, True),
        (sums, None, True),
        (no_vmap, None, False),
        (drawn, 3, True),
        (drawn_no_vmap, 3, False),
    ],
)
def test_every_run_has_the_values_of_the_plain_loop(
    make: Callable[[int], Task], every: int | None, is_stacked: bool, seeds: tuple[int, ...]
) -> None:
    training = stack_of(make, seeds)
    evaluator = StackedEvaluator(training, STEPS)
    found = evaluated(training.cursor, evaluator.evaluate, every)
    losses = [step.losses for step in ensemble.train(training, steps=STEPS)]
    ends = evaluator.training_set_loss()
    assert bool(evaluator._sequential) is not is_stacked
    for nth, (word, seed) in enumerate((word, seed) for word in WORDS for seed in seeds):
        rows, expected, end = alone(make, word, seed, every)
        assert [each[nth] for each in losses] == pytest.approx(rows, rel=NEAR)
        assert [step for step, _ in found] == [step for step, _ in expected]
        assert len(found) == (4 if every else 3)
        for (_, values), (_, wanted) in zip(found, expected, strict=True):
            assert list(values[nth]) == list(wanted)
            assert values[nth] == pytest.approx(wanted, rel=NEAR)
        assert ends[nth] == pytest.approx(end, rel=NEAR)


@pytest.mark.parametrize("make", [of_its_seed, unequal])
def test_tasks_that_differ_by_seed_are_evaluated_in_turn(make: Callable[[int], Task]) -> None:
    training = stack_of(make)
    evaluator = StackedEvaluator(training)
    found = evaluator.evaluate()
    assert evaluator._sequential
    for nth, seed in enumerate(SEEDS * len(WORDS)):
        assert found[nth] == pytest.approx(Evaluator(built(make, seed)).evaluate(), rel=NEAR)


@pytest.mark.parametrize("make", [listed, shuffled, of_loaders, no_vmap])
def test_evaluations_leave_the_training_as_it_was(make: Callable[[int], Task]) -> None:
    watched, undisturbed = stack_of(make), stack_of(make)
    evaluator = StackedEvaluator(watched)
    evaluated(watched.cursor, evaluator.evaluate, 2)
    rows = list(ensemble.train(watched, steps=STEPS))
    torch.manual_seed(5)
    undisturbed.cursor.evaluate_every = 2  # draws as many batches in advance
    assert list(ensemble.train(undisturbed, steps=STEPS)) == rows
    for one, other in zip(watched.stack.parameters().values(), undisturbed.stack.parameters().values(), strict=True):
        assert torch.equal(one, other)
    assert all(module.training for seed in watched.seeds for module in seed.task.model.modules())


def test_the_loss_is_the_mean_over_all_batches_by_hand() -> None:
    training = stack_of(listed, SEEDS[:1])
    (task,) = [seed.original for seed in training.seeds]
    first, _, _, second = (list(layer.parameters()) for layer in task.model.children())
    total = 0.0
    for x, y in task.batches:
        for row, wanted in zip(x, y, strict=True):
            hidden = torch.tanh(first[0] @ row + first[1])
            output = second[0] @ hidden + second[1]
            total += ((output - wanted) ** 2).sum().item() / 2 / len(x)
    assert StackedEvaluator(training).training_set_loss() == pytest.approx([total / 4] * len(WORDS), rel=NEAR)


def test_a_limit_takes_the_first_batches() -> None:
    training = stack_of(listed)
    found = StackedEvaluator(training, 3).training_set_loss(2)
    expected = [Evaluator(built(listed, seed)).training_set_loss(most=2) for seed in SEEDS * len(WORDS)]
    assert found == pytest.approx(expected, rel=NEAR)
    assert StackedEvaluator(training, 2).training_set_loss() == pytest.approx(found, rel=NEAR)


def test_small_chunks_give_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    training = stack_of(listed)
    together = StackedEvaluator(training).training_set_loss()
    monkeypatch.setattr(stacked_evaluating, "CHUNK_ELEMENTS", 1)
    assert StackedEvaluator(training).training_set_loss() == pytest.approx(together, rel=NEAR)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (lambda model, batch: model(batch[0]), "metric 'own' must return a number"),
        (lambda *_: (1.0, -1), "metric 'own' must return a number"),
    ],
)
def test_a_faulty_metric_is_reported_as_in_the_plain_loop(metric: Any, message: str) -> None:
    def make(seed: int) -> Task:
        return Task.supervised(net(), listed(seed).batches, nn.MSELoss(), metrics={"own": metric})

    with pytest.raises(TaskError, match=message):
        StackedEvaluator(stack_of(make)).evaluate()


def test_values_that_are_not_finite_stay_so() -> None:
    training = stack_of(listed)
    with torch.no_grad():
        for each in training.stack.groups[0].parameters.values():
            each[0] = torch.inf
    found = StackedEvaluator(training).training_set_loss()
    assert sum(map(np.isfinite, found)) == len(found) - 1


def test_a_stack_that_cannot_be_compared_is_left_to_single_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def differs(*_: object) -> None:
        raise CannotStackError

    monkeypatch.setattr(StackedEvaluator, "_compare", differs)
    training = stack_of(listed)
    evaluator = StackedEvaluator(training)
    expected = [Evaluator(built(listed, seed)).training_set_loss() for seed in SEEDS * len(WORDS)]
    assert evaluator.training_set_loss() == expected
    assert evaluator.training_set_loss() == expected
