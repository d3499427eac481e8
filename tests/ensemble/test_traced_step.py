"""The traced and the compiled step train what the step by vmap trains."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from gradlab import modes, optimizers
from gradlab.engines import ensemble
from gradlab.engines.ensemble import (
    CannotStackError,
    Member,
    SeedTask,
    StackedTraining,
    TracedSteps,
    traced_step,
)
from gradlab.engines.ensemble.batches import stack_batches
from gradlab.engines.ensemble.tracing import trace
from tests.ensemble.test_loop import IN_DOUBLE, built, distance

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
    training = StackedTraining([SeedTask(task(seed)) for seed in SEEDS], members, adam, traced=steps)
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


def test_a_compiled_step_clears_an_infinite_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "compile", lambda traced, **_: traced)
    members = [Member(modes.parse(word)) for word in ("zero_grad", "halve_grad")]
    training = StackedTraining(
        [SeedTask(make(3))], members, partial(torch.optim.SGD, lr=0.0), traced=TracedSteps(compiled=True)
    )
    steps = ensemble.train(training, steps=3)
    next(steps)
    parameters = list(training.stack.groups[0].parameters.values())
    assert len(parameters) == 2
    for parameter in parameters:
        assert parameter.grad is not None
        parameter.grad.fill_(torch.inf)
    next(steps)
    for parameter in parameters:
        assert parameter.grad is not None
        assert parameter.grad[0].isfinite().all()
        assert parameter.grad[1].isinf().all()


def test_without_a_compiler_steps_run_eagerly_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler at hand\nand more")

    monkeypatch.setattr(torch, "compile", no_compiler)
    steps = TracedSteps(compiled=True)
    training, found = curves_of(make, steps)
    assert steps.fault == "no compiler at hand"
    assert training.traced is None
    assert max(map(distance, found, curves_of(make, None)[1])) < IN_DOUBLE
    assert curves_of(make, steps)[0].traced is None  # it is not tried again


def test_a_loss_that_depends_on_more_than_its_batch_is_found() -> None:
    def shifted(seed: int) -> Task:
        task = make(seed)
        return replace(task, loss=lambda model, batch: task.loss(model, batch) + seed)

    steps = TracedSteps()
    training = StackedTraining([SeedTask(shifted(3))], [Member(modes.zero_grad())], adam, traced=steps)
    next(ensemble.train(training, steps=1))
    training = StackedTraining([SeedTask(shifted(4))], [Member(modes.zero_grad())], adam, traced=steps)
    with pytest.raises(CannotStackError, match="its loss depends on more than weights and batch"):
        next(ensemble.train(training, steps=1))  # it has the other one's step


def test_a_loss_that_changes_later_is_found_by_a_later_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ensemble.loop, "CHECK_EVERY", 10)
    task, calls = make(3), [0]

    def late(model: nn.Module, batch: Any) -> torch.Tensor:
        return task.loss(model, batch) * (2.0 if calls[0] else 1.0)  # type: ignore[no-any-return]  # a tensor

    training = StackedTraining(
        [SeedTask(replace(task, loss=late))], [Member(modes.zero_grad())], adam, traced=TracedSteps()
    )
    steps = ensemble.train(training, steps=30)
    for _ in range(12):
        next(steps)
    calls[0] = 1
    with pytest.raises(CannotStackError):
        list(steps)
    assert training.cursor.step == 20


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
    stack = ensemble.Stack([task], [Member(modes.zero_grad())] * 4, deferred=True)
    parameters: list[Tensor] = [each.detach() for each in stack.groups[0].parameters.values()]
    no_buffers: list[Tensor] = []
    stacked = stack_batches([next(iter(task.batches))])
    assert stacked
    given = parameters, no_buffers, [each[0] for each in stacked.tensors]
    return traced_step._gradients(stack, stacked, one_task=True), given


def test_no_ops_are_removed_from_a_traced_step() -> None:
    function, given = gradients(make(3))
    before, after = trace(function, given), traced_step._simplified(function, given)
    assert len(operations(after)) < 0.8 * len(operations(before))
    for one, other in zip(tree_leaves(before(*given)), tree_leaves(after(*given)), strict=True):
        assert torch.equal(one, other)


# Recording


def operations(graph: GraphModule) -> list[str]:
    """Return what is called, but for what takes a tensor out of a list."""
    called = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    return [name for name in called if "getitem" not in name]


def test_a_parameter_without_a_gradient_gets_zeros_as_from_torch() -> None:
    used, unused = torch.tensor(3.0), torch.ones(2)

    def loss(parameters: list[Tensor]) -> Tensor:
        return parameters[0] ** 2

    for function in (traced_step._grad_and_value(loss), torch.func.grad_and_value(loss)):
        (grad, zeros), found = function([used, unused])
        assert (grad.item(), zeros.tolist(), found.item()) == (6.0, [0.0, 0.0], 9.0)


def test_optimizers_of_the_table_train_compiled_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda traced, **_: traced)
    for name in ("vanilla", "RMSprop"):
        build = partial(optimizers.build, name)
        members = [Member(modes.parse(word)) for word in ("zero_grad", "no_zero_grad")]
        each = [
            StackedTraining([SeedTask(make(3))], members, lambda some: build(some, {"lr": 0.01}), traced=steps)  # noqa: B023
            for steps in (TracedSteps(compiled=True), None)
        ]
        one, other = (list(ensemble.train(training, steps=20)) for training in each)
        assert [step.losses for step in one] == [pytest.approx(step.losses, rel=1e-12) for step in other]
        assert len(one) == 20
