"""Tasks as objects: a `Task` or a function stays as it was, and what modes would share is refused."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import gradlab
from gradlab import Task
from gradlab.errors import ExperimentError, TaskError, UnfairTaskError
from gradlab.tasks.sources import hash_of_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODES = ["zero_grad", "no_zero_grad", "halve_grad"]


def batches() -> list[Any]:
    torch.manual_seed(0)
    return [(torch.randn(3, 2), torch.randn(3, 1)) for _ in range(4)]


def short(task: Any, **more: Any) -> Any:
    return gradlab.run(task, **{"modes": MODES, "steps": 4, "out": None, "quiet": True, **more})


def swept(task: Any, **more: Any) -> Any:
    given: dict[str, Any] = {"vary": {"lr": [0.1, 0.2]}, "modes": "zero_grad", "steps": 3, "out": None, "quiet": True}
    return gradlab.sweep(task, **given | more)


class Growing(nn.Module):
    """A criterion that counts its calls."""

    calls: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, found: Any, wanted: Any) -> Any:
        self.calls += 1
        return self.calls * ((found - wanted) ** 2).mean()


# A Task object


def test_every_mode_has_its_own_copy_of_a_criterion() -> None:
    criterion = Growing()
    result = short(Task.supervised(nn.Linear(2, 1), batches(), criterion))
    assert len({run.first_loss for run in result}) == 1
    assert criterion.calls == 0


def loss_of(value: Any) -> Any:
    """Return a loss whose closure holds the value."""
    return lambda model, batch: (value, ((model(batch[0]) - batch[1]) ** 2).mean())[1]


def test_a_loss_that_uses_the_model_itself_is_refused() -> None:
    model = nn.Linear(2, 1)
    for used in (model, [model]):
        with pytest.raises(TaskError, match="the Task's loss uses the model in 'value', but every mode trains a copy"):
            short(Task(model, batches(), loss_of(used)))
    assert model.weight.grad is None


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (Growing(), "a Growing"),
        (nn.Linear(2, 1), "a Linear"),
        (nn.Parameter(torch.ones(1)), "a Parameter"),
        (torch.Generator(), "a Generator"),
        (random.Random(3), "a Random"),  # noqa: S311 - not for secrets
        (np.random.default_rng(3), "a Generator"),
    ],
)
def test_a_loss_that_reads_what_modes_would_share_is_refused(value: Any, kind: str) -> None:
    with pytest.raises(TaskError) as raised:
        short(Task(nn.Linear(2, 1), batches(), loss_of(value)))
    assert str(raised.value).startswith(f"the Task's loss uses 'value', {kind}, which all modes would share\npass a ")


class Trainer:
    def __init__(self, criterion: Any) -> None:
        self.criterion = criterion

    def loss(self, model: Any, batch: Any) -> Any:
        return self.criterion(model(batch[0]), batch[1])

    __call__ = loss


NOISE = torch.Generator()


def calling(function: Any, model: Any, batch: Any) -> Any:
    return function(model, batch)


def drawing(model: Any, batch: Any) -> Any:
    return (model(batch[0]) - batch[1] + torch.randn(3, 1, generator=NOISE)).square().mean()


def drawing_by_default(model: Any, batch: Any, NOISE: Any = NOISE) -> Any:  # noqa: N803 - as the global
    return (model(batch[0]) - batch[1] + torch.randn(3, 1, generator=NOISE)).square().mean()


def drawing_by_name(model: Any, batch: Any, *, NOISE: Any = NOISE) -> Any:  # noqa: N803 - as the global
    return drawing_by_default(model, batch, NOISE)


def test_the_functions_that_a_loss_calls_are_checked() -> None:
    def outer(model: Any, batch: Any) -> Any:
        return drawing(model, batch)

    for loss in (drawing, outer, partial(calling, drawing), drawing_by_default, drawing_by_name):
        with pytest.raises(TaskError, match="uses 'NOISE', a Generator"):
            short(Task(nn.Linear(2, 1), batches(), loss))


@pytest.mark.parametrize("value", [nn.MSELoss(), nn.CrossEntropyLoss(weight=torch.ones(2)), torch.ones(2), 0.5, nn])
def test_a_loss_may_read_what_training_does_not_change(value: Any) -> None:
    assert short(Task(nn.Linear(2, 1), batches(), loss_of(value))).ok


@pytest.mark.parametrize("loss", [Trainer(Growing()), Trainer(Growing()).loss], ids=["object", "method"])
def test_a_loss_that_is_an_object_is_copied(loss: Any) -> None:
    result = short(Task(nn.Linear(2, 1), batches(), loss))
    assert len({run.first_loss for run in result}) == 1
    assert getattr(loss, "__self__", loss).criterion.calls == 0


model = nn.Linear(2, 1)


def test_an_attribute_named_like_a_global_model_is_not_it() -> None:
    class Batch:
        model = 1.0

    found = [Batch()]
    assert short(Task(nn.Linear(2, 1), batches(), lambda net, batch: found[0].model * net(batch[0]).sum())).ok


def test_a_later_batch_of_a_list_makes_another_run() -> None:
    def made(value: float) -> Task:
        torch.manual_seed(0)
        found = batches()
        found[-1] = (found[-1][0], torch.full((3, 1), value))
        return Task.supervised(nn.Linear(2, 1), found, nn.MSELoss())

    assert [run.cached for run in short(made(1.0), out="runs")] == [False] * 3
    assert [run.cached for run in short(made(1.0), out="runs")] == [True] * 3
    assert [run.cached for run in short(made(2.0), out="runs")] == [False] * 3


def test_the_state_of_a_criterion_makes_another_run() -> None:
    def made(calls: float) -> Task:
        torch.manual_seed(0)
        criterion = Growing()
        criterion.calls += calls
        return Task.supervised(nn.Linear(2, 1), batches(), criterion)

    assert short(made(0), out="runs").runs[0].folder != short(made(1), out="runs").runs[0].folder


# A function


@pytest.mark.parametrize("modes", [["zero_grad"], MODES])
def test_a_function_that_returns_one_model_is_refused(modes: list[str]) -> None:
    net = nn.Linear(2, 1)
    before = net.weight.clone()

    def same(seed: int) -> Task:  # noqa: ARG001 - all tasks take a seed
        return Task.supervised(net, batches(), nn.MSELoss())

    for train in (partial(short, modes=modes), swept):
        with pytest.raises(UnfairTaskError, match="task 'same' returns the same model twice"):
            train(same)
    assert torch.equal(net.weight, before)
    assert net.weight.grad is None


@pytest.mark.parametrize("engine", ["loop", "ensemble"])
def test_a_loss_that_uses_another_model_is_an_error(engine: str) -> None:
    other = nn.Linear(2, 1)

    def mistaken(seed: int) -> Task:  # noqa: ARG001 - all tasks take a seed
        return Task(nn.Linear(2, 1), batches(), lambda _, batch: other(batch[0]).square().mean())

    with pytest.raises(TaskError, match="the task's loss gave no parameter of its model a gradient"):
        short(mistaken, engine=engine)


# The default dtype


@pytest.fixture
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("_double")
def test_runs_with_another_default_dtype_are_not_reused() -> None:
    def own(seed: int) -> Task:  # noqa: ARG001 - all tasks take a seed
        return Task.supervised(nn.Linear(2, 1), [(torch.ones(3, 2), torch.ones(3, 1))], nn.MSELoss())

    for task in ("noisy_line", own):
        double = short(task, out="runs")
        torch.set_default_dtype(torch.float32)
        single = short(task, out="runs")
        assert [run.cached for run in single] == [False] * 3
        assert single["zero_grad", 42].losses.tolist() != double["zero_grad", 42].losses.tolist()
        torch.set_default_dtype(torch.float64)
        assert [run.cached for run in short(task, out="runs")] == [True] * 3


@pytest.mark.usefixtures("_double")
def test_a_sweep_with_another_dtype_trains_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradlab.sweeps.running.Workers", None)  # starting processes fails
    assert swept("noisy_line", engine="loop").ok
    torch.set_default_dtype(torch.float32)
    assert swept("noisy_line", engine="loop", workers=1).ok  # though its start was another with float64
    torch.set_default_dtype(torch.float64)
    for more in ({"workers": 2}, {"dask": "tcp://x:1"}):
        with pytest.raises(ExperimentError, match="needs the default dtype float32"):
            swept("noisy_line", **more)


# The source of a function


def reads(value: Any) -> Any:
    return lambda _: value


class RaisingLength(list[int]):
    def __len__(self) -> int:
        raise RuntimeError("on purpose")


def test_values_that_cannot_be_read_count_by_their_type() -> None:
    deep: Any = 1
    for _ in range(3000):
        deep = {"in": deep}
    for value in (RaisingLength([1]), deep):
        assert hash_of_source(reads(value)) == hash_of_source(reads(value)) != hash_of_source(reads(None))


@pytest.mark.parametrize("kind", [list, dict.fromkeys, set])
def test_long_containers_count_by_length_and_first_items(kind: Any) -> None:
    known = hash_of_source(reads(kind(range(2000))))
    assert known == hash_of_source(reads(kind(range(2000))))
    assert known != hash_of_source(reads(kind(range(2001))))
    assert known != hash_of_source(reads(kind([-5, *range(1, 2000)])))


# Modules that a task's file imports


@pytest.mark.parametrize("task", ["mine.py:own", "with_helper.mine:own"])
def test_an_edited_helper_is_imported_again(folder: Path, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    helper = f"helper_of_{task.partition('.')[0]}"  # its own, since modules stay imported
    (folder / "with_helper").mkdir()
    for file in (folder / "mine.py", folder / "with_helper" / "mine.py"):
        file.write_text(
            f"import torch\nfrom gradlab import Task\nfrom {helper} import width\n"
            "def own(seed):\n    batches = [(torch.ones(1, width), torch.ones(1, 1))]\n"
            "    return Task.supervised(torch.nn.Linear(width, 1), batches, torch.nn.MSELoss())\n"
        )
    for width in (2, 5):
        (folder / f"{helper}.py").write_text(f"width = {width}  # {'x' * width}\n")
        model = short(task, modes="zero_grad", out="runs", fresh=True)["zero_grad", 42].model
        assert model.in_features == width
        for engine in ("loop", "ensemble"):
            assert swept(task, engine=engine, workers=1).ok
