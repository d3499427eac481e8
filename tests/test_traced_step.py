"""The traced and the compiled step, freed memory that stays, and how many runs are trained at once."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves

from gradlab import modes, optimizers
from gradlab.engines import ensemble
from gradlab.engines.ensemble import CannotStackError, Member, TracedSteps, Training, World
from gradlab.engines.ensemble import chunk_size as chunks
from gradlab.engines.ensemble import traced_step as traced
from gradlab.engines.ensemble.tracing import recorded
from tests.test_ensemble import IN_DOUBLE, built, distance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor
    from torch.fx import GraphModule

    from gradlab.rows import Row
    from gradlab.tasks import Task

WORDS = ["zero_grad", "zero_grad:fill", "no_zero_grad", "halve_grad", "keep=-0.25"]
SEEDS = (3, 4)

make = partial(built, "noisy_line", {"samples": 10, "batch_size": 5})
adam = partial(torch.optim.Adam, lr=0.01)


def curves_of(task: Callable[[int], Task], steps: TracedSteps | None, words: Sequence[str] = WORDS) -> Any:
    """Return the training, and the rows of each mode and seed."""
    members = [Member(modes.parse(word), nth) for word in words for nth in range(len(SEEDS))]
    training = Training([World(task(seed)) for seed in SEEDS], members, adam, traced=steps)
    done = list(ensemble.train(training, steps=40))
    rows: list[list[Row]] = [[each.row(nth) for each in done] for nth in range(len(members))]
    return training, rows


@pytest.mark.slow
@pytest.mark.xdist_group("compiled")
def test_a_compiled_step_trains_the_same_and_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, compile_ = [], torch.compile

    def noted(step: Any, **options: Any) -> Any:
        compiled.append(step)
        return compile_(step, **options)

    monkeypatch.setattr(torch, "compile", noted)
    steps = TracedSteps(compiled=True)
    for words in (WORDS, WORDS[::-1], ["accumulate:2"] * 5):  # the windows of the last are not yet full at each step
        training, found = curves_of(make, steps, words)
        assert training.traced is steps
        assert not steps.fault
        _, expected = curves_of(make, None, words)
        assert max(map(distance, found, expected)) < IN_DOUBLE
    assert len(compiled) == 1


def test_nothing_of_an_infinite_gradient_is_left_where_it_is_cleared_by_a_compiled_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "compile", lambda traced, **_: traced)
    members = [Member(modes.parse(word)) for word in ("zero_grad", "halve_grad")]
    training = Training([World(make(3))], members, partial(torch.optim.SGD, lr=0.0), traced=TracedSteps(compiled=True))
    steps = ensemble.train(training, steps=3)
    next(steps)
    parameters = list(training.stack.parameters)
    assert len(parameters) == 2
    for parameter in parameters:
        assert parameter.grad is not None
        parameter.grad.fill_(torch.inf)
    next(steps)
    for parameter in parameters:
        assert parameter.grad is not None
        assert parameter.grad[0].isfinite().all()
        assert parameter.grad[1].isinf().all()


def test_where_nothing_can_be_compiled_it_goes_on_without_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler at hand\nand more")

    monkeypatch.setattr(torch, "compile", no_compiler)
    steps = TracedSteps(compiled=True)
    training, found = curves_of(make, steps)
    assert steps.fault == "no compiler at hand"
    assert training.traced is None
    assert max(map(distance, found, curves_of(make, None)[1])) < IN_DOUBLE
    assert curves_of(make, steps)[0].traced is None  # it is not tried again


def test_a_loss_that_rests_on_more_than_its_batch_is_found() -> None:
    def shifted(seed: int) -> Task:
        task = make(seed)
        return replace(task, loss=lambda model, batch: task.loss(model, batch) + seed)

    steps = TracedSteps()
    training = Training([World(shifted(3))], [Member(modes.zero_grad())], adam, traced=steps)
    next(ensemble.train(training, steps=1))
    training = Training([World(shifted(4))], [Member(modes.zero_grad())], adam, traced=steps)
    with pytest.raises(CannotStackError, match="its loss rests on more than weights and batch"):
        next(ensemble.train(training, steps=1))  # it has the other one's step


def test_a_loss_that_changes_later_is_found_when_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ensemble.loop, "LOOK_EVERY", 10)
    task, calls = make(3), [0]

    def late(model: nn.Module, batch: Any) -> torch.Tensor:
        return task.loss(model, batch) * (2.0 if calls[0] else 1.0)  # type: ignore[no-any-return]  # a tensor

    training = Training([World(replace(task, loss=late))], [Member(modes.zero_grad())], adam, traced=TracedSteps())
    steps = ensemble.train(training, steps=30)
    for _ in range(12):
        next(steps)
    calls[0] = 1
    with pytest.raises(CannotStackError):
        list(steps)
    assert training.place[0] == 20


def test_a_traced_step_trains_the_same_for_every_mode() -> None:
    steps = TracedSteps()
    for name, options in (
        ("noisy_line", {"samples": 10, "batch_size": 5}),
        ("digits", {"hidden": 4, "batch_size": 512}),
    ):
        task = partial(built, name, options)
        for words in (WORDS, ["accumulate:2"] * 5, ["keep=0.5,every=4", "keep=0,every=4"], ["keep=-0.25,every=3:sum"]):
            training, found = curves_of(task, steps, words)
            assert training.traced is steps
            assert max(map(distance, found, curves_of(task, None, words)[1])) < IN_DOUBLE


def gradients(task: Task) -> tuple[Any, Any]:
    """Return what gives gradients and losses of four runs of a task, and what it takes."""
    stack = ensemble.Stack([task], [Member(modes.zero_grad())] * 4, late=True)
    parameters: list[Tensor] = [each.detach() for each in stack.groups[0].parameters.values()]
    no_buffers: list[Tensor] = []
    given = parameters, no_buffers, list(next(iter(task.batches)))
    return traced._gradients(stack, lambda tensors: tuple(tensors), several=False), given


def test_what_changes_nothing_is_taken_out_of_a_traced_step() -> None:
    function, given = gradients(make(3))
    before, after = recorded(function, given), traced._traced(function, given)
    assert len(operations(after)) < 0.8 * len(operations(before))
    for one, other in zip(tree_leaves(before(*given)), tree_leaves(after(*given)), strict=True):
        assert torch.equal(one, other)


# Recording


def operations(graph: GraphModule) -> list[str]:
    """Return what is called, but for what takes a tensor out of a list."""
    called = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    return [name for name in called if "getitem" not in name]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("noisy_line", {}),
        ("straight_line", {}),
        ("linear_4x3", {}),
        ("digits", {"hidden": 4}),
        ("echo", {"length": 8, "chunk": 4}),
    ],
)
def test_a_recorded_step_is_what_torch_traces(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = built(name, options, 3)
    ours, given = gradients(task)
    monkeypatch.setattr(traced, "_grad_and_value", torch.func.grad_and_value)
    theirs, _ = gradients(task)
    one, other = recorded(ours, given), make_fx(theirs)(*given)
    assert operations(one) == operations(other) != []
    found, expected = tree_leaves(one(*given)), tree_leaves(other(*given))
    assert all(map(torch.equal, found, expected))


def test_a_parameter_without_a_gradient_gets_zeros_as_from_torch() -> None:
    used, unused = torch.tensor(3.0), torch.ones(2)

    def loss(parameters: list[Tensor]) -> Tensor:
        return parameters[0] ** 2

    for function in (traced._grad_and_value(loss), torch.func.grad_and_value(loss)):
        (grad, zeros), found = function([used, unused])
        assert (grad.item(), zeros.tolist(), found.item()) == (6.0, [0.0, 0.0], 9.0)


def test_what_is_recorded_is_done_to_other_tensors() -> None:
    def function(tensors: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        largest, _ = tensors[0].max(dim=0)  # one operation that returns two tensors
        return largest, [tensors[1].clone().mul_(largest)]

    done = recorded(function, [[torch.eye(2), torch.ones(2)]])
    largest, (product,) = done([torch.tensor([[1.0, 5.0], [4.0, 2.0]]), torch.tensor([10.0, 100.0])])
    assert (largest.tolist(), product.tolist()) == ([4.0, 5.0], [40.0, 500.0])


def test_a_constant_is_recorded_as_it_was_made() -> None:
    def function(tensors: list[Tensor]) -> Tensor:
        return torch.tensor(2.0).mul_(tensors[0])

    done = recorded(function, [[torch.tensor(3.0)]])
    assert [done([torch.tensor(each)]).item() for each in (3.0, 3.0, 5.0)] == [6.0, 6.0, 10.0]


def test_a_tensor_from_elsewhere_is_recorded_as_itself() -> None:
    factor = torch.tensor(2.0)
    done = recorded(lambda tensors: tensors[0] * factor, [[torch.tensor(3.0)]])
    factor.fill_(10.0)
    assert done([torch.tensor(3.0)]).item() == 30.0


@pytest.mark.parametrize("take", [lambda each: each.item(), bool, lambda each: torch.equal(each, each + 1)])
def test_what_takes_a_number_out_of_a_tensor_is_not_recorded(take: Callable[[Tensor], object]) -> None:
    with pytest.raises(CannotStackError, match=r"^its loss takes a number out of a tensor$"):
        recorded(lambda tensors: (take(tensors[0]), tensors[0])[1], [[torch.tensor(3.0)]])


def measured(seconds: dict[int, float]) -> Callable[[int], float]:
    return lambda size: seconds[size]


def test_the_smallest_number_of_runs_that_is_nearly_the_best_is_taken() -> None:
    seconds = {16: 9.0, 32: 5.0, 64: 3.0, 128: 2.1, 256: 2.0, 512: 2.2, 1024: 3.1, 2048: 1.0}
    size, found = chunks.best(measured(seconds), 5000)
    assert size == 128
    assert list(found) == [16, 32, 64, 128, 256, 512, 1024]  # beyond the cache it is not gone on


@pytest.mark.parametrize(("most", "tried"), [(1, [1]), (16, [16]), (20, [16, 20]), (10**6, list(chunks.SIZES))])
def test_no_more_runs_are_tried_than_there_are(most: int, tried: list[int]) -> None:
    assert list(chunks.best(lambda size: 1 / size, most)[1]) == tried


def test_a_step_is_timed_for_each_run() -> None:
    def seconds(runs: int) -> float:
        members = [Member(modes.zero_grad())] * runs
        return chunks.seconds_a_run_step(Training([World(make(3))], members, adam))

    one, many = seconds(1), seconds(64)
    assert 0 < many < one / 8  # a step of 64 tiny runs takes little longer than one of a single run


FREED = """
import sys
from pathlib import Path
if sys.argv[1] == "kept":
    from gradlab.engines.ensemble.memory import keep_freed_memory
    assert keep_freed_memory()
import torch
[torch.ones(2**20) for _ in range(16)]
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is the GNU C library that is asked")
def test_memory_that_was_freed_stays_with_the_process() -> None:
    def resident(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", FREED, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert resident("kept") - resident("given back") > 32 * 1024  # KiB, of 16 tensors of 4 MiB


def test_optimizers_that_are_named_in_the_table_train_compiled_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda traced, **_: traced)
    for name in ("vanilla", "RMSprop"):
        build = partial(optimizers.build, name)
        members = [Member(modes.parse(word)) for word in ("zero_grad", "no_zero_grad")]
        each = [
            Training([World(make(3))], members, lambda some: build(some, {"lr": 0.01}), traced=steps)  # noqa: B023
            for steps in (TracedSteps(compiled=True), None)
        ]
        one, other = (list(ensemble.train(training, steps=20)) for training in each)
        assert [step.losses for step in one] == [pytest.approx(step.losses, rel=1e-12) for step in other]
        assert len(one) == 20
