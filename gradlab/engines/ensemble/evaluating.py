"""Evaluations of all runs of a stack between two steps: the values of `gradlab.engines.evaluating`, up to rounding.

Batches of equal shape are evaluated together, for all runs at once, by `torch.func.vmap`. The first batch is compared
with single runs. Where vmap cannot compute a metric, or the values differ, the runs are evaluated sequentially.
"""

from __future__ import annotations

from contextlib import ExitStack
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.engines.ensemble.batches import (
    CannotStackError,
    StackedBatches,
    draw_together,
    split_batch,
    stack_batches,
)
from gradlab.engines.evaluating import Evaluator, iter_apart
from gradlab.errors import TaskError
from gradlab.rows import TRAINING_SET_LOSS
from gradlab.tasks import unverified, uses_global_generators
from gradlab.tasks.global_generators import set_global_states

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor, nn

    from gradlab.engines.ensemble.batches import SeedTask
    from gradlab.engines.ensemble.loop import StackedTraining
    from gradlab.tasks import Task

    Function = Callable[[Any, Any], Any]  # a loss or a metric: from a model and a batch to a number or (sum, count)

CHUNK_ELEMENTS = 2**22  # of the batches that are evaluated together, times the runs
COMPARED_TASKS = 3  # whose first run is compared with its values alone


class _Request(NamedTuple):
    """What an evaluation computes: the loss, or also all metrics, over at most `most` batches."""

    loss_name: str
    on_training: bool
    loss_only: bool
    most: int | None = None

    def functions(self, task: Task) -> dict[str, Function]:
        """Return the functions of a task by name, the loss first."""
        return {self.loss_name: task.loss, **({} if self.loss_only else task.metrics)}

    def batches(self, task: Task) -> Iterable[Any]:
        """Return the batches of a task that they are computed on."""
        return unverified(task.batches) if self.on_training or task.validation is None else task.validation


class StackedEvaluator:
    """Evaluates the runs of a stack.

    Attributes:
        loss_name: the name of the loss: validation_loss, or training_set_loss without validation batches.
    """

    def __init__(self, training: StackedTraining, most: int | None = None) -> None:
        """Evaluate on at most `most` of the training batches; the validation batches always count all."""
        self._training, self._most = training, most
        self._evaluators = [Evaluator(seed.original, most) for seed in training.seeds]
        self.loss_name = self._evaluators[0].loss_name
        self._sequential: set[_Request] = set()
        self._parameters: dict[str, Tensor] = {}

    def evaluate(self) -> list[dict[str, float]]:
        """Return the loss and the metrics of each run, in the order of the members.

        Raises:
            TaskError: a metric is neither a number nor a pair (sum, count), or there are no batches.
        """
        on_training = self._evaluators[0].task.validation is None
        request = _Request(self.loss_name, on_training, loss_only=False, most=self._most if on_training else None)
        return self._values(request, lambda evaluator: evaluator.evaluate())

    def training_set_loss(self, most: int | None = None) -> list[float]:
        """Return the mean loss over the training batches of each run, in the order of the members.

        Args:
            most: the number of batches, at most. Default: that of the evaluator.

        Raises:
            TaskError: there are no batches.
        """
        request = _Request(TRAINING_SET_LOSS, on_training=True, loss_only=True, most=most or self._most)
        found = self._values(request, lambda evaluator: {TRAINING_SET_LOSS: evaluator.training_set_loss(most=most)})
        return [each[TRAINING_SET_LOSS] for each in found]

    def _values(self, request: _Request, alone: Callable[[Evaluator], dict[str, float]]) -> list[dict[str, float]]:
        if request not in self._sequential:
            try:
                return self._stacked(request)
            except TaskError:
                raise
            except Exception:  # vmap raises several types; a task's own error is raised again below
                self._sequential.add(request)
        return [alone(self._with_weights_of(nth)) for nth in range(len(self._training.stack.members))]

    def _with_weights_of(self, member: int) -> Evaluator:
        """Return the evaluator of a run's task, with the run's weights in its model."""
        import torch

        stack, seeds = self._training.stack, self._training.seeds
        task = stack.members[member].task
        weights = stack.weights_of(member)
        with torch.no_grad():
            for name, parameter in self._evaluators[task].task.model.named_parameters():
                if name in weights:
                    parameter.copy_(weights[name])
        if len(seeds) > 1:
            set_global_states(seeds[task].state)
        return self._evaluators[task]

    def _stacked(self, request: _Request) -> list[dict[str, float]]:
        """Compute all runs at once.

        Raises:
            CannotStackError: batches or counts do not allow it, or the values differ from those of single runs. Torch
                may raise other errors for the same reason.
        """
        import torch

        stack = self._training.stack
        tasks = [seed.original for seed in self._training.seeds]
        modules = [_measuring_module(task.model, list(request.functions(task).values())) for task in tasks]
        self._parameters = stack.parameters()
        total: Tensor | None = None
        with ExitStack() as opened, torch.no_grad():
            for evaluator in self._evaluators:
                opened.enter_context(evaluator.undisturbed(evaluator.task.model))
            for chunk in self._chunks(request):
                found = self._of_chunk(modules[0], chunk)
                if total is None:
                    self._compare(modules, chunk, found)
                total = found.sum(1) if total is None else total + found.sum(1)
        if total is None:
            raise CannotStackError("it has no batch")
        sums, counts = total.unbind(2)
        if not (counts.isfinite() & (counts >= 0)).all() or not counts[:, 0].all():
            raise CannotStackError("it counts no items")
        means = (sums / torch.where(counts == 0, torch.nan, counts)).T
        columns = [stack.by_member(each) for each in means]
        return [dict(zip(request.functions(tasks[0]), values, strict=True)) for values in zip(*columns, strict=True)]

    def _chunks(self, request: _Request) -> Iterator[StackedBatches]:
        """Yield batches of equal shape together: tensors of shape (seeds, batches, …)."""
        seeds = [_apart(seed, request.batches(seed.original)) for seed in self._training.seeds]
        most = CHUNK_ELEMENTS // len(self._training.stack.members)
        waiting: list[Sequence[Any]] = []
        before: Any = None
        for batches, _ in draw_together(seeds, 1, request.most):
            tensors, others = split_batch(batches[0])
            kind = [(each.shape, each.dtype) for each in tensors], others
            size = sum(each.numel() for each in tensors)
            if waiting and (kind != before or (len(waiting) + 1) * size > most):
                yield _joined(waiting)
                waiting = []
            before = kind
            waiting.append(batches)
        if waiting:
            yield _joined(waiting)

    def _of_chunk(self, module: nn.Module, batches: StackedBatches) -> Tensor:
        """Return sum and count of every function, batch and run, shape (runs, batches, functions, 2)."""
        from torch.func import functional_call, vmap

        stack = self._training.stack

        def of_run(parameters: dict[str, Tensor], constants: dict[str, Tensor], *tensors: Tensor) -> Any:
            def of_batch(*parts: Tensor) -> Any:
                return functional_call(module, {**parameters, **constants}, (batches.rebuild(parts),))

            return vmap(of_batch)(*tensors)

        found: Tensor
        if len(self._training.seeds) == 1:
            shared = vmap(of_run, in_dims=(0, None, *[None] * len(batches.tensors)))
            found = shared(self._parameters, stack.constants[0], *[each[0] for each in batches.tensors])
        else:
            own = [each[stack.task_of] for each in batches.tensors]
            found = vmap(of_run)(self._parameters, stack.stacked_constants, *own)
        return found

    def _compare(self, modules: Sequence[nn.Module], batches: StackedBatches, found: Tensor) -> None:
        """Compare the first batch with single runs.

        Raises:
            CannotStackError: the values differ by more than rounding.
        """
        import torch
        from torch.func import functional_call

        stack, parameters = self._training.stack, self._parameters
        step = max(1, (len(modules) - 1) // (COMPARED_TASKS - 1))
        for task in range(0, len(modules), step):
            row = int((stack.task_of == task).nonzero()[0])
            own = {name: each[row] for name, each in parameters.items()} | stack.constants[task]
            batch = batches.rebuild([each[task, 0] for each in batches.tensors])
            expected: Tensor = functional_call(modules[task], own, (batch,))
            near = 1000 * torch.finfo(next(iter(parameters.values())).dtype).eps
            alike = torch.isclose(found[row, 0], expected, rtol=near, atol=near)
            if not (alike | ~(found[row, 0].isfinite() | expected.isfinite())).all():
                raise CannotStackError("its loss or a metric differs if runs are stacked")


def _apart(seed: SeedTask, batches: Iterable[Any]) -> SeedTask:
    """Return the seed's task with these batches; drawing them leaves the seed's position in its training as it is."""

    def lazily() -> Iterator[Any]:
        yield from iter_apart(batches)

    apart = copy(seed)
    apart.state = seed.state | {"own": seed.generators.now()["own"]}
    apart.task = replace(seed.original, batches=lazily())
    apart.shares_generators = uses_global_generators(batches)
    return apart


def _joined(steps: Sequence[Sequence[Any]]) -> StackedBatches:
    """Return the batches of several steps, each with one batch per seed, as tensors of shape (seeds, batches, …)."""
    seeds = len(steps[0])
    stacked = stack_batches([batch for batches in steps for batch in batches])
    if stacked is None:
        raise CannotStackError("its seeds have batches of different shapes")
    tensors = [each.reshape(len(steps), seeds, *each.shape[1:]).transpose(0, 1) for each in stacked.tensors]
    return stacked._replace(tensors=tensors)


def _measuring_module(model: nn.Module, functions: Sequence[Function]) -> nn.Module:
    """Return a module with the model's parameters that computes (sum, count) of each function for a batch."""
    import torch

    device = next(model.parameters()).device

    def number(value: Any) -> Tensor:
        tensor = value if isinstance(value, torch.Tensor) else torch.tensor(value, device=device)
        return tensor.to(torch.float64).reshape(())

    class MeasuringModule(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, batch: Any) -> Tensor:
            found = [function(self.model, batch) for function in functions]
            pairs = [each if isinstance(each, tuple) else (each, 1) for each in found]
            return torch.stack([torch.stack([number(each) for each in pair]) for pair in pairs])

    return MeasuringModule()
