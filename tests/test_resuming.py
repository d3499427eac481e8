"""Resuming: wherever a training is interrupted, it goes on bit for bit as if it had not been."""

from __future__ import annotations

import copy
import io
import random
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from gradlab import modes, optimizers, schedules, tasks
from gradlab.engines.cursor import Cursor
from gradlab.engines.loop import train
from gradlab.engines.resuming import CannotResumeError, Checkpoint, TrainingState
from gradlab.tasks import Minibatches, Task
from tests.table import MODES, OPTIMIZERS, each_with_each

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from gradlab.rows import Row

STEPS = 13


# Tasks, each with a state that model and optimizer do not hold


def data(n: int = 18) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(n, 3, generator=generator), torch.randn(n, 1, generator=generator)


def net(*inner: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), *inner, nn.Linear(4, 1))


def own_generator() -> Task:
    return Task.supervised(net(nn.Tanh()), Minibatches(*data(), 4, torch.Generator().manual_seed(1)), nn.MSELoss())


def shuffled_and_dropped_from_one_generator() -> Task:
    x, y = data()
    rows: Any = list(zip(x, y, strict=True))
    loader = torch.utils.data.DataLoader(rows, batch_size=5, shuffle=True)
    return Task.supervised(net(nn.Dropout(0.3)), loader, nn.MSELoss())


def fixed_batches_with_dropout_and_statistics() -> Task:
    return Task.supervised(net(nn.BatchNorm1d(4), nn.Dropout(0.5)), [data(6), data(9), data(4)], nn.MSELoss())


class Drawn:
    """Batches that do not tell how many they are, drawn one by one from the generators of three libraries."""

    def __init__(self) -> None:
        self.numpy, self.python = np.random.default_rng(1), random.Random(1)  # noqa: S311 - no secret
        self.legacy, self.torch = np.random.RandomState(1), torch.Generator().manual_seed(1)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(5):
            shift = self.numpy.normal() + self.python.random() + self.legacy.normal()
            shift += random.random() + np.random.random()  # noqa: S311 - no secret
            yield torch.rand(2, 3, generator=self.torch) + shift, torch.rand(2, 1, generator=self.torch)


def generators_of_three_libraries() -> Task:
    return Task.supervised(net(nn.Dropout(0.1)), Drawn(), nn.MSELoss())


def noise_from_a_generator_that_the_loss_holds() -> Task:
    noise = torch.Generator().manual_seed(3)

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor], noise: torch.Generator = noise) -> Tensor:
        inputs, targets = batch
        return nn.functional.mse_loss(model(inputs + torch.randn(inputs.shape, generator=noise)), targets)

    return Task(net(nn.Tanh()), [data(6), data(9)], partial(loss, noise=noise))


def batches_that_tell_their_size() -> Task:
    x, y = data()
    batches = [(x[:7], y[:7]), (x[7:9], y[7:9]), (x[9:], y[9:]), (x[:1], y[:1]), (x[1:4], y[1:4])]
    criterion = nn.MSELoss(reduction="sum")
    return Task(net(nn.Tanh()), batches, lambda model, batch: (criterion(model(batch[0]), batch[1]), len(batch[0])))


def order_and_noise_from_pythons_one_generator() -> Task:
    class Shuffled:
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            order = list(range(4))
            random.shuffle(order)
            return iter([data(5 + nth) for nth in order])

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.mse_loss(model(batch[0] + random.random()), batch[1])  # noqa: S311 - no secret

    return Task(net(nn.Tanh()), Shuffled(), loss)


NOISE = torch.Generator()


def noise_from_a_generator_of_the_module() -> Task:
    NOISE.manual_seed(3)

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.mse_loss(model(batch[0] + torch.randn(1, generator=NOISE)), batch[1])

    return Task(net(nn.Tanh()), [data(6), data(9)], loss)


class Remembering(nn.Module):
    """A model with a state in a buffer that a state_dict leaves out."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.inner = net(nn.Tanh())
        self.register_buffer("seen", torch.zeros(1), persistent=False)

    def forward(self, x: Tensor) -> Any:
        self.seen += 0.1
        return self.inner(x) + self.seen.clone()


def a_hidden_buffer() -> Task:
    return Task.supervised(Remembering(), [data(6), data(9)], nn.MSELoss())


TASKS = [
    own_generator,
    shuffled_and_dropped_from_one_generator,
    fixed_batches_with_dropout_and_statistics,
    generators_of_three_libraries,
    noise_from_a_generator_that_the_loss_holds,
    batches_that_tell_their_size,
    a_hidden_buffer,
    order_and_noise_from_pythons_one_generator,
    noise_from_a_generator_of_the_module,
]


# A training that can be interrupted


class Begun(NamedTuple):
    training: TrainingState
    rows: Iterator[Row]


def begun(
    make: Any, mode: str, optimizer: dict[str, Any], saved: dict[str, Any] | None = None, *, geometry: bool = False
) -> Begun:
    """Build a training, from its start or from what was saved of another."""
    tasks.global_generators.seed_everything(7)
    task = make()
    settings = dict(optimizer)
    made = optimizers.build(settings.pop("name"), task.model.parameters(), settings)
    scheduler = None if isinstance(made, optimizers.Vanilla) else schedules.build("cosine", made, {}, STEPS)
    training = TrainingState(task, made, scheduler)
    if saved:
        training.restore(saved)
    ends: dict[str, Any] = {"steps": STEPS, "clip_norm": 0.5, "geometry": geometry}
    rows = train(training.task, modes.parse(mode), made, **ends, scheduler=scheduler, cursor=training.cursor)
    return Begun(training, rows)


def ended(begun: Begun) -> tuple[list[Row], list[Any]]:
    """Train to the end; return the rows, and the weights and gradients that are left."""
    rows = list(begun.rows)
    left = [each.detach().clone() for each in begun.training.task.model.state_dict().values()]
    grads = [each.grad for each in begun.training.task.model.parameters()]
    return rows, [*left, *grads]


def alike(one: list[Any], other: list[Any]) -> bool:
    return all(a is b if a is None or b is None else torch.equal(a, b) for a, b in zip(one, other, strict=True))


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    saved = io.BytesIO()
    torch.save(state, saved)
    saved.seek(0)
    found: dict[str, Any] = torch.load(saved, weights_only=True)
    return found


@pytest.mark.parametrize(("make", "mode"), each_with_each(TASKS, MODES))
def test_training_resumes_exactly_after_every_step(make: Any, mode: str) -> None:
    optimizer = {"name": "SGD", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}
    expected, left = ended(begun(make, mode, optimizer))
    watched = begun(make, mode, optimizer)
    for step, row in enumerate(watched.rows, 1):
        state = through_a_file(watched.training.snapshot())
        random.seed(99)  # nobody else's random numbers may count
        found, left_now = ended(begun(make, mode, optimizer, state))
        assert [*expected[:step], *found] == expected
        assert alike(left_now, left)
        watched.training.generators.set(state["generators"]["now"])  # which the training in between has moved
        assert row == expected[step - 1]
    assert len(expected) == STEPS


@pytest.mark.parametrize("optimizer", [{"name": name, **options} for name, options in OPTIMIZERS], ids=str)
def test_training_resumes_exactly_with_every_optimizer(optimizer: dict[str, Any]) -> None:
    check_every_step(own_generator, "accumulate:4", optimizer)


@pytest.mark.parametrize("make", [own_generator, batches_that_tell_their_size])
@pytest.mark.parametrize("mode", ["zero_grad", "no_zero_grad", "accumulate:4:sum", "keep=0.5,every=4"])
def test_the_geometry_resumes_exactly_after_every_step(make: Any, mode: str) -> None:
    check_every_step(make, mode, {"name": "SGD", "lr": 0.05, "momentum": 0.9}, geometry=True)


def check_every_step(make: Any, mode: str, optimizer: dict[str, Any], *, geometry: bool = False) -> None:
    """Stop a training after each step, and see another one go on from there to the same end."""
    expected, left = ended(begun(make, mode, optimizer, geometry=geometry))
    assert len(expected) == STEPS
    assert any(row.geometry for row in expected) == geometry
    for step in range(1, STEPS + 1):
        stopped = begun(make, mode, optimizer, geometry=geometry)
        for _ in range(step):
            next(stopped.rows)
        state = through_a_file(stopped.training.snapshot())
        found, left_now = ended(begun(make, mode, optimizer, state, geometry=geometry))
        assert [*expected[:step], *found] == expected
        assert alike(left_now, left)


@pytest.mark.parametrize("name", ["NAdam", "ASGD", "Adam", "RAdam"])
def test_an_optimizer_keeps_the_types_of_its_state(name: str) -> None:
    def double() -> Task:
        task = own_generator()
        x, y = data()
        return Task.supervised(task.model.double(), [(x.double(), y.double())], nn.MSELoss())

    check_every_step(double, "zero_grad", {"name": name, "lr": 0.1})


def test_a_generator_without_a_state_is_left_alone() -> None:
    def drawn_from_the_system() -> Task:
        task = own_generator()
        return Task(task.model, task.batches, partial(_noted_loss, system=random.SystemRandom()))

    assert len(begun(drawn_from_the_system, "zero_grad", {"name": "SGD", "lr": 0.1}).training.generators.own) == 1


def _noted_loss(model: nn.Module, batch: tuple[Tensor, Tensor], system: object) -> Tensor:  # noqa: ARG001
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def test_a_resumed_own_mode_gets_the_right_update() -> None:
    def leave(parameters: list[nn.Parameter], update: int) -> None:
        for parameter in parameters:
            assert parameter.grad is not None
            parameter.grad *= 0.1 * update

    def training(cursor: Cursor | None = None) -> Iterator[Row]:
        torch.manual_seed(7)
        task = own_generator()
        mode = modes.zero_grad()._replace(rewrite_grad=leave)
        return train(task, mode, torch.optim.SGD(task.model.parameters(), 0.0), steps=4, cursor=cursor)

    cursor = Cursor()
    cursor.load_state_dict({"place": [2, 2, 0, 2], "told": False, "window": {}})
    assert [row.update for row in training(cursor)] == [2, 3]


# What cannot go on says so


def saved_after(make: Any, step: int) -> dict[str, Any]:
    stopped = begun(make, "zero_grad", {"name": "SGD", "lr": 0.05})
    for _ in range(step):
        next(stopped.rows)
    return copy.deepcopy(stopped.training.snapshot())


def test_a_task_that_draws_other_batches_cannot_resume() -> None:
    drawn = iter(range(1000))

    def counting() -> Task:
        class Counted:
            def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
                for _ in range(5):
                    yield torch.full((1, 3), float(next(drawn))), torch.zeros(1, 1)

        return Task.supervised(net(nn.Tanh()), Counted(), nn.MSELoss())

    state = saved_after(counting, 3)
    with pytest.raises(CannotResumeError, match="does not draw the same batches again"):
        ended(begun(counting, "zero_grad", {"name": "SGD", "lr": 0.05}, state))


def test_an_error_of_the_resumed_task_is_its_own() -> None:
    broken: list[bool] = []

    def failing() -> Task:
        class Batches:
            def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
                if broken:
                    raise OSError("the network is away")
                return iter([data(5), data(6)])

        return Task.supervised(net(nn.Tanh()), Batches(), nn.MSELoss())

    state = saved_after(failing, 3)
    broken.append(True)
    with pytest.raises(OSError, match="the network is away"):
        ended(begun(failing, "zero_grad", {"name": "SGD", "lr": 0.05}, state))


@pytest.mark.parametrize(
    "change",
    [{"versions": None}, {"step": -5}, {"step": True}, {"seconds": float("nan")}, {"seconds": 1}, {"state": []}],
    ids=str,
)
def test_a_checkpoint_with_a_value_that_none_has_is_refused(change: dict[str, Any]) -> None:
    saved = Checkpoint("abc", {"torch": "2"}, 3, 0.5, "", {})
    assert Checkpoint.from_bytes(saved.to_bytes()) == saved
    with pytest.raises(CannotResumeError, match="it is not a checkpoint"):
        Checkpoint.from_bytes(saved._replace(**change).to_bytes())


def test_another_model_cannot_resume() -> None:
    state = saved_after(own_generator, 3)
    with pytest.raises(CannotResumeError, match="other weights or buffers"):
        begun(fixed_batches_with_dropout_and_statistics, "zero_grad", {"name": "SGD", "lr": 0.05}, state)


def test_a_model_with_other_hidden_buffers_cannot_resume() -> None:
    state = saved_after(a_hidden_buffer, 1)
    state["buffers"] = {}
    with pytest.raises(CannotResumeError, match="other weights or buffers"):
        begun(a_hidden_buffer, "zero_grad", {"name": "SGD", "lr": 0.05}, state)


def test_a_task_with_other_generators_cannot_resume() -> None:
    state = saved_after(own_generator, 3)
    state["generators"]["begin"]["own"] = []
    with pytest.raises(CannotResumeError, match="the task had 0 generators and has 1 now"):
        begun(own_generator, "zero_grad", {"name": "SGD", "lr": 0.05}, state)
