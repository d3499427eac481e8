"""The stack: the parameters of many runs in one tensor each, and the one rule with `keep` as a tensor."""

from __future__ import annotations

from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.engines.ensemble.batches import CannotStackError, together
from gradlab.engines.loop import mean_and_items

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

    from gradlab.modes import Mode
    from gradlab.tasks import Task


class Member(NamedTuple):
    """A run of an ensemble: its mode, which of the tasks it trains, and by which of the optimizers."""

    mode: Mode
    task: int = 0
    optimizer: int = 0


class Group:
    """Runs of one optimizer's options whose `.grad` is cleared in one way: it sees what it would of each alone.

    After `optimizer.zero_grad()` a parameter that a step does not use has no gradient, and is left alone; where the
    gradient is kept it has one.

    Attributes:
        members: which runs of the ensemble, in the order of the slices.
        parameters: by name, each of shape (runs, …).
        optimizer: which one it has, as its members say.
    """

    def __init__(self, numbers: list[int], members: list[Member], start: dict[str, Tensor], *, clears: bool) -> None:
        import torch

        self.members, self.optimizer = numbers, members[0].optimizer
        self.parameters = {name: torch.nn.Parameter(each) for name, each in start.items()}
        self._clears = clears
        self._keep = Keep([each.mode for each in members], start)

    def leave(self) -> None:
        """Leave keep × gradient in `.grad`: the rule."""
        for name, parameter in self.parameters.items():
            if self._clears:
                parameter.grad = None  # as `optimizer.zero_grad` does
            elif parameter.grad is not None:
                self._keep.of(name, parameter.grad)

    def clip(self, norm: float) -> None:
        """Clip `.grad` of each run to this norm, as `clip_grad_norm_` does."""
        import torch

        grads = [parameter.grad for parameter in self.parameters.values() if parameter.grad is not None]
        norms = [torch.linalg.vector_norm(grad.reshape(len(grad), -1), dim=1) for grad in grads]
        shares = (norm / (torch.linalg.vector_norm(torch.stack(norms), dim=0) + 1e-6)).clamp(max=1.0)
        for grad in grads:
            grad *= shares.view(-1, *[1] * (grad.dim() - 1))


class Keep:
    """What is kept of the gradients of some runs, as tensors that multiply stacked ones."""

    def __init__(self, modes: Sequence[Mode], like: dict[str, Tensor]) -> None:
        import torch

        keep = torch.tensor([mode.keep for mode in modes], dtype=torch.float64)
        self._all = bool((keep == 1).all())
        self._cleared = (keep == 0).nonzero().flatten()
        self._by_name = {name: _like(keep, each) for name, each in like.items()}

    def of(self, name: str, grad: Tensor) -> None:
        """Leave keep × the gradient of the parameter of that name."""
        if not self._all:
            grad *= self._by_name[name]
            if len(self._cleared):
                grad[self._cleared] = 0  # and not 0 × inf


class Whole:
    """All runs of a stack in one tensor a parameter, and the rule for all at once, when the next gradient is added.

    Attributes:
        parameters: by name, each of shape (runs, …); those of the groups are slices of them.
        grads: their `.grad`.
        due: whether what is left in it is still to be multiplied by what is kept.
    """

    def __init__(self, start: dict[str, Tensor], modes: Sequence[Mode]) -> None:
        import torch

        self.parameters = start
        self.grads = {name: torch.zeros_like(each) for name, each in start.items()}
        self.due = False
        self._keep = Keep(modes, start)
        first = next(iter(start.values()))
        keep = torch.tensor([mode.keep for mode in modes], dtype=torch.promote_types(first.dtype, torch.float32))
        self._factors = [each.to(first.device) for each in (torch.ones_like(keep), keep)]

    def link(self, groups: Sequence[Group]) -> None:
        """Let `.grad` of the groups be slices of that of all, with what it holds."""
        begin = 0
        for group in groups:
            end = begin + len(group.members)
            for name, parameter in group.parameters.items():
                part = self.grads[name][begin:end]
                if parameter.grad is None:
                    part.zero_()
                elif parameter.grad.data_ptr() != part.data_ptr():
                    part.copy_(parameter.grad)
                parameter.grad = part
            begin = end

    @property
    def factor(self) -> Tensor:
        """What `.grad` is to be multiplied by before the next gradient is added, shape (runs,)."""
        return self._factors[self.due]

    def add(self, gradients: Sequence[Tensor], share: float) -> None:
        """Do what is due, and add share × these gradients, of all parameters in their order."""
        self.settle()
        for grad, new in zip(self.grads.values(), gradients, strict=True):
            grad.add_(new, alpha=share)

    def settle(self) -> None:
        """Do what is due, so that `.grad` is what the modes keep."""
        if self.due:
            for name, grad in self.grads.items():
                self._keep.of(name, grad)
        self.due = False


class Stack:
    """Runs of one ensemble: what is trained of them, and their losses.

    Attributes:
        members: the runs.
        groups: of runs that are cleared alike; their slices one after another are the stack.
        task_of: the task of each run of the stack, shape (runs,).
        parts: of each task, the module that returns its loss of a batch.
        whole: where the rule is applied late: what the groups are slices of.
        still: of each task, the buffers and the parameters that are not trained; `still_of_all`, stacked.
    """

    def __init__(self, tasks: Sequence[Task], members: Sequence[Member], *, late: bool = False) -> None:
        """Stack the runs, in one group an optimizer where the rule is applied late."""
        import torch

        def apart(nth: int) -> tuple[int, bool]:
            return members[nth].optimizer, late or not _clears(members[nth].mode)

        self.members = list(members)
        order = sorted(range(len(members)), key=lambda nth: (apart(nth), 0 if late else _clearing(members[nth].mode)))
        self._place = torch.tensor(sorted(range(len(order)), key=order.__getitem__))  # of each member in the stack
        self._in_place = order == sorted(order)
        self.task_of = torch.tensor([members[nth].task for nth in order])
        models = [task.model for task in tasks]
        device = next((each.device for each in models[0].parameters()), None)
        self.task_of, self._place = self.task_of.to(device), self._place.to(device)
        trained = [name for name, each in models[0].named_parameters() if each.requires_grad]
        held = [{**dict(model.named_parameters()), **dict(model.named_buffers())} for model in models]
        whole = {name: torch.stack([held[members[nth].task][name].detach() for nth in order]) for name in trained}
        self.groups: list[Group] = []
        begin = 0
        for (_, kept), those in groupby(order, apart):
            chosen = list(those)
            start = {name: each[begin : begin + len(chosen)] for name, each in whole.items()}
            self.groups.append(Group(chosen, [members[nth] for nth in chosen], start, clears=not kept))
            begin += len(chosen)
        self.whole: Whole | None = None
        if late:
            self.whole = Whole(whole, [members[nth].mode for nth in order])
            self.whole.link(self.groups)
        self.still = [
            {f"model.{name}": each.detach() for name, each in one.items() if name not in trained} for one in held
        ]
        self.still_of_all = {
            name: torch.stack([one[name] for one in self.still])[self.task_of] for name in self.still[0]
        }
        self.parts = [_parts_of(task) for task in tasks]
        self._used: list[set[str]] = []  # of each task, which parameters had a gradient, where that may differ

    @property
    def parameters(self) -> Iterator[nn.Parameter]:
        """All tensors that are trained."""
        return (each for group in self.groups for each in group.parameters.values())

    def losses(self, batches: Sequence[Any]) -> tuple[Tensor, Tensor | None]:
        """Return the mean loss of each run, shape (runs,), with a graph; and its items, where the task tells.

        Args:
            batches: one of each task.
        """
        stacked = self._stacked()
        if len(batches) == 1:
            return _split(self._of_one(0, stacked, batches[0]))
        parts = together(batches)
        if parts is not None:
            return _split(self._of_all(stacked, parts.stacked, parts.batch))
        return _split(self._of_each(stacked, batches))

    def leave(self) -> None:
        """Leave keep × gradient in `.grad`: at once, or when the next gradient is added."""
        if self.whole:
            self.whole.due = True
        else:
            for group in self.groups:
                group.leave()

    def catch_up(self) -> None:
        """Apply the rule at once from now on."""
        if self.whole:
            self.whole.settle()
        self.whole = None

    def check_used(self) -> None:
        """Raise CannotStackError where a parameter had a gradient in some tasks alone: in the others it has none."""
        if any(each != self._used[0] for each in self._used):
            raise CannotStackError("its seeds do not use the same parameters in each step")
        self._used = []

    def in_order(self, each: Tensor) -> list[float]:
        """Return numbers of the stack, shape (runs,), as those of the members in their order."""
        found: list[float] = (each if self._in_place else each[self._place]).tolist()
        return found

    def _stacked(self) -> dict[str, Tensor]:
        import torch

        if len(self.groups) == 1:
            return {f"model.{name}": each for name, each in self.groups[0].parameters.items()}
        each = [group.parameters for group in self.groups]
        return {f"model.{name}": torch.cat([one[name] for one in each]) for name in each[0]}

    def _of_one(self, task: int, stacked: dict[str, Tensor], batch: Any) -> Tensor:
        """Return the losses of runs of one task, which share its batch."""
        from torch.func import functional_call, vmap

        def loss(parameters: dict[str, Tensor]) -> Tensor:
            found: Tensor = functional_call(self.parts[task], {**parameters, **self.still[task]}, (batch,))
            return found

        found: Tensor = vmap(loss)(stacked)
        return found

    def _of_all(
        self, stacked: dict[str, Tensor], tensors: list[Tensor], batch_of: Callable[[Sequence[Tensor]], Any]
    ) -> Tensor:
        """Return the losses of runs of several tasks, each of its own batch."""
        from torch.func import functional_call, vmap

        def loss(parameters: dict[str, Tensor], still: dict[str, Tensor], *parts: Tensor) -> Tensor:
            found: Tensor = functional_call(self.parts[0], {**parameters, **still}, (batch_of(parts),))
            return found

        found: Tensor = vmap(loss)(stacked, self.still_of_all, *(each[self.task_of] for each in tensors))
        return found

    def _of_each(self, stacked: dict[str, Tensor], batches: Sequence[Any]) -> Tensor:
        """Return the losses where batches are of unequal form: of the runs of each task by themselves."""
        import torch

        chosen = [(self.task_of == task).nonzero().flatten() for task in range(len(batches))]
        self._used = [set() for _ in batches]
        losses = []
        for task, (rows, batch) in enumerate(zip(chosen, batches, strict=True)):
            parameters = {name: each[rows] for name, each in stacked.items()}
            for name, each in parameters.items():
                each.register_hook(partial(_note, self._used[task], name))  # type: ignore[no-untyped-call]  # torch's
            losses.append(self._of_one(task, parameters, batch))
        return torch.cat(losses)[torch.cat(chosen).argsort()]


def _like(keep: Tensor, parameter: Tensor) -> Tensor:
    """Return keep in a form that multiplies a stacked tensor, in a type that rounds as a number would."""
    import torch

    kind = torch.promote_types(parameter.dtype, torch.float32)
    return keep.to(parameter.device, kind).view(-1, *[1] * (parameter.dim() - 1))


def _note(used: set[str], name: str, _gradient: Tensor) -> None:
    used.add(name)


def _clears(mode: Mode) -> bool:
    return mode.keep == 0 and not mode.fill


def _clearing(mode: Mode) -> int:
    return 0 if _clears(mode) else 1 if mode.keep == 0 else 2


def _parts_of(task: Task) -> nn.Module:
    """Return the task's loss as a module, the parameters of which can be replaced: it returns (mean loss, items)."""
    import torch

    class Parts(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = task.model

        def forward(self, batch: Any) -> Tensor:
            loss, items = mean_and_items(task.loss(self.model, batch))
            if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
                raise CannotStackError("its loss is no scalar")
            loss = loss.reshape(())
            return loss if items is None else torch.stack([loss, torch.as_tensor(items).to(loss)])

    return Parts()


def _split(found: Tensor) -> tuple[Tensor, Tensor | None]:
    return (found, None) if found.dim() == 1 else (found[:, 0], found[:, 1].detach())
