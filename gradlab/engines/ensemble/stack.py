"""The stack: each parameter of many runs in one tensor, and the rule with `keep` as a tensor."""

from __future__ import annotations

from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.engines.ensemble.batches import CannotStackError, StackedBatches, stack_batches
from gradlab.engines.losses import mean_and_items

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from gradlab.modes import Mode
    from gradlab.tasks import Task


class Member(NamedTuple):
    """A run of an ensemble: its mode, and the numbers of its task and its optimizer."""

    mode: Mode
    task: int = 0
    optimizer: int = 0

    @property
    def clears(self) -> bool:
        """Whether `.grad` becomes None after a step, as with `optimizer.zero_grad()`."""
        return self.mode.keep == 0 and not self.mode.fill


class ParameterGroup:
    """Runs with the same optimizer options that either all clear `.grad` to None or all keep a tensor.

    After `optimizer.zero_grad()`, an unused parameter has no gradient, and the optimizer skips it. If the mode keeps
    gradients, it has one. So the two kinds cannot share an optimizer.

    Attributes:
        members: numbers of the runs, in the order of the slices.
        parameters: by name, each of shape (runs, …).
        optimizer: number of the optimizer, shared by the members.
    """

    def __init__(self, numbers: list[int], members: list[Member], start: dict[str, Tensor], *, clears: bool) -> None:
        import torch

        self.members, self.optimizer = numbers, members[0].optimizer
        self.parameters = {name: torch.nn.Parameter(each) for name, each in start.items()}
        self._clears = clears
        self._keep = KeepTensors([each.mode for each in members], start)

    @property
    def gradients(self) -> dict[str, Tensor | None]:
        """`.grad` of each parameter, by name."""
        return {name: parameter.grad for name, parameter in self.parameters.items()}

    def keep_gradients(self) -> None:
        """Leave keep × gradient in `.grad`: the rule."""
        for name, parameter in self.parameters.items():
            if self._clears:
                parameter.grad = None  # like `optimizer.zero_grad`
            elif parameter.grad is not None:
                self._keep.multiply(name, parameter.grad)

    def clip(self, norm: float) -> None:
        """Clip `.grad` of each run to this norm, like `clip_grad_norm_`."""
        import torch

        grads = [grad for grad in self.gradients.values() if grad is not None]
        norms = [torch.linalg.vector_norm(grad.reshape(len(grad), -1), dim=1) for grad in grads]
        shares = (norm / (torch.linalg.vector_norm(torch.stack(norms), dim=0) + 1e-6)).clamp(max=1.0)
        for grad in grads:
            grad *= shares.view(-1, *[1] * (grad.dim() - 1))


class KeepTensors:
    """The `keep` of several runs, as tensors that multiply stacked gradients."""

    def __init__(self, modes: Sequence[Mode], like: dict[str, Tensor]) -> None:
        import torch

        keep = torch.tensor([mode.keep for mode in modes], dtype=torch.float64)
        self._all = bool((keep == 1).all())
        self._cleared = (keep == 0).nonzero().flatten()
        self._by_name = {  # in a type that rounds like a Python number
            name: keep.to(each.device, torch.promote_types(each.dtype, torch.float32)).view(
                -1, *[1] * (each.dim() - 1)
            )
            for name, each in like.items()
        }

    def multiply(self, name: str, grad: Tensor) -> None:
        """Multiply the gradient of the named parameter by `keep`, in place."""
        if not self._all:
            grad *= self._by_name[name]
            if len(self._cleared):
                grad[self._cleared] = 0  # 0 × inf would be NaN


class StackedGradients:
    """`.grad` of all runs, one tensor per parameter; `keep` is applied when the next gradient is added.

    Attributes:
        parameters: by name, each of shape (runs, …); the groups hold slices of them.
        grads: their gradients, by name.
        keep_pending: whether `grads` must still be multiplied by `keep`.
    """

    def __init__(self, parameters: dict[str, Tensor], modes: Sequence[Mode]) -> None:
        import torch

        self.parameters = parameters
        self.grads = {name: torch.zeros_like(each) for name, each in parameters.items()}
        self.keep_pending = False
        self._keep = KeepTensors(modes, parameters)
        first = next(iter(parameters.values()))
        keep = torch.tensor([mode.keep for mode in modes], dtype=torch.promote_types(first.dtype, torch.float32))
        self._factors = [each.to(first.device) for each in (torch.ones_like(keep), keep)]

    def link(self, groups: Sequence[ParameterGroup]) -> None:
        """Copy `.grad` of the groups into `grads`, and replace it by slices of `grads`."""
        begin = 0
        for group in groups:
            end = begin + len(group.members)
            for name, parameter in group.parameters.items():
                part = self.grads[name][begin:end]
                if parameter.grad is not None:
                    part.copy_(parameter.grad)
                parameter.grad = part
            begin = end

    @property
    def factor(self) -> Tensor:
        """The factor on `grads` before the next gradient is added, shape (runs,)."""
        return self._factors[self.keep_pending]

    def add(self, gradients: Sequence[Tensor], share: float) -> None:
        """Set `grads` to keep × `grads` + share × `gradients`, in the order of the parameters."""
        self.apply_keep()
        for grad, new in zip(self.grads.values(), gradients, strict=True):
            grad.add_(new, alpha=share)

    def apply_keep(self) -> None:
        """Multiply `grads` by `keep` if that is pending."""
        if self.keep_pending:
            for name, grad in self.grads.items():
                self._keep.multiply(name, grad)
        self.keep_pending = False


class Stack:
    """The runs of an ensemble: their parameters and their losses.

    Attributes:
        members: the runs.
        groups: the groups of runs; concatenated, their slices form the stack.
        task_of: number of the task of each run in the stack, shape (runs,).
        loss_modules: one module per task; it returns the task's loss for a batch.
        deferred: the gradients of all groups, if `keep` is applied when the next gradient is added; else None.
        constants: per task, its buffers and untrained parameters.
        stacked_constants: the same, stacked over the runs.
    """

    def __init__(self, tasks: Sequence[Task], members: Sequence[Member], *, deferred: bool = False) -> None:
        """Stack the runs. If deferred, use one group per optimizer."""
        import torch

        def group_key(nth: int) -> tuple[int, bool]:
            return members[nth].optimizer, deferred or not members[nth].clears

        def key(nth: int) -> tuple[int, bool, bool]:
            return *group_key(nth), not deferred and members[nth].mode.keep != 0

        self.members = list(members)
        order = sorted(range(len(members)), key=key)
        models = [task.model for task in tasks]
        device = next((each.device for each in models[0].parameters()), None)
        place = torch.tensor(sorted(range(len(order)), key=order.__getitem__), device=device)
        self._place = None if order == sorted(order) else place  # index of each member in the stack
        self.task_of = torch.tensor([members[nth].task for nth in order], device=device)
        trained = [name for name, each in models[0].named_parameters() if each.requires_grad]
        held = [{**dict(model.named_parameters()), **dict(model.named_buffers())} for model in models]
        start = {name: torch.stack([held[members[nth].task][name].detach() for nth in order]) for name in trained}
        self.groups: list[ParameterGroup] = []
        begin = 0
        for (_, kept), numbers in groupby(order, group_key):
            chosen = list(numbers)
            slices = {name: each[begin : begin + len(chosen)] for name, each in start.items()}
            self.groups.append(ParameterGroup(chosen, [members[nth] for nth in chosen], slices, clears=not kept))
            begin += len(chosen)
        self.deferred: StackedGradients | None = None
        if deferred:
            self.deferred = StackedGradients(start, [members[nth].mode for nth in order])
            self.deferred.link(self.groups)
        self.constants = [
            {f"model.{name}": each.detach() for name, each in one.items() if name not in trained} for one in held
        ]
        self.stacked_constants = {
            name: torch.stack([one[name] for one in self.constants])[self.task_of] for name in self.constants[0]
        }
        self.loss_modules = [_loss_module(task) for task in tasks]
        self._used: list[set[str]] = []  # per task, the parameters with a gradient, if that may differ

    def losses(self, batches: Sequence[Any]) -> tuple[Tensor, Tensor | None]:
        """Return the mean loss of each run, shape (runs,), with a graph; and its items, or None.

        Args:
            batches: one per task.
        """
        parameters = self.parameters()
        if len(batches) == 1:
            found = self._of_task(0, parameters, batches[0])
        elif (stacked := stack_batches(batches)) is not None:
            found = self._of_all(parameters, stacked)
        else:
            found = self._of_each(parameters, batches)
        return (found, None) if found.dim() == 1 else (found[:, 0], found[:, 1].detach())

    def parameters(self) -> dict[str, Tensor]:
        """Return the parameters of all runs by name, each of shape (runs, …), as `loss_modules` name them."""
        import torch

        each = [group.parameters for group in self.groups]
        return {
            f"model.{name}": torch.cat([one[name] for one in each]) if len(each) > 1 else each[0][name]
            for name in each[0]
        }

    def weights_of(self, member: int) -> dict[str, Tensor]:
        """Return the weights of a run, as its model names them."""
        group = next(group for group in self.groups if member in group.members)
        nth = group.members.index(member)
        return {name: each.detach()[nth] for name, each in group.parameters.items()}

    def keep_gradients(self) -> None:
        """Leave keep × gradient in `.grad`, immediately or, if deferred, when the next gradient is added."""
        if self.deferred:
            self.deferred.keep_pending = True
        else:
            for group in self.groups:
                group.keep_gradients()

    def stop_deferring(self) -> None:
        """Apply `keep` immediately from now on."""
        if self.deferred:
            self.deferred.apply_keep()
        self.deferred = None

    def check_used(self) -> None:
        """Raise CannotStackError if a parameter has a gradient in some tasks and none in others."""
        if any(each != self._used[0] for each in self._used):
            raise CannotStackError("its seeds use different parameters in the same step")
        self._used = []

    def by_member(self, values: Tensor) -> list[float]:
        """Reorder values of the stack, shape (runs,), to the order of the members."""
        found: list[float] = (values if self._place is None else values[self._place]).tolist()
        return found

    def _of_task(self, task: int, parameters: dict[str, Tensor], batch: Any) -> Tensor:
        """Return the losses of the runs of one task; they share its batch."""
        from torch.func import functional_call, vmap

        def loss(parameters: dict[str, Tensor]) -> Any:
            return functional_call(self.loss_modules[task], {**parameters, **self.constants[task]}, (batch,))

        found: Tensor = vmap(loss)(parameters)
        return found

    def _of_all(self, parameters: dict[str, Tensor], batches: StackedBatches) -> Tensor:
        """Return the losses of runs of several tasks, each on its task's batch."""
        from torch.func import functional_call, vmap

        def loss(parameters: dict[str, Tensor], constants: dict[str, Tensor], *tensors: Tensor) -> Any:
            batch = batches.rebuild(tensors)
            return functional_call(self.loss_modules[0], {**parameters, **constants}, (batch,))

        tensors = [each[self.task_of] for each in batches.tensors]
        found: Tensor = vmap(loss)(parameters, self.stacked_constants, *tensors)
        return found

    def _of_each(self, parameters: dict[str, Tensor], batches: Sequence[Any]) -> Tensor:
        """Return the losses if batches cannot be stacked: one task at a time."""
        import torch

        chosen = [(self.task_of == task).nonzero().flatten() for task in range(len(batches))]
        self._used = [set() for _ in batches]
        losses = []
        for task, (rows, batch) in enumerate(zip(chosen, batches, strict=True)):
            own = {name: each[rows] for name, each in parameters.items()}
            for name, each in own.items():
                each.register_hook(partial(_add, self._used[task], name))  # type: ignore[no-untyped-call]  # torch's
            losses.append(self._of_task(task, own, batch))
        return torch.cat(losses)[torch.cat(chosen).argsort()]


def _add(used: set[str], name: str, _gradient: Tensor) -> None:
    used.add(name)


def _loss_module(task: Task) -> nn.Module:
    """Return the task's loss as a module with replaceable parameters; it returns the mean loss, or (mean, items)."""
    import torch

    class LossModule(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = task.model

        def forward(self, batch: Any) -> Tensor:
            loss, items = mean_and_items(task.loss(self.model, batch))
            if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
                raise CannotStackError("its loss is not a scalar")
            loss = loss.reshape(())
            return loss if items is None else torch.stack([loss, torch.as_tensor(items).to(loss)])

    return LossModule()
