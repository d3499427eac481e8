"""Quadratics: where the loss of a task is one, seen in full batches, the numbers that theory needs of it.

They are measured when a run is trained and recorded with it, so that whoever draws theory later needs no torch.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout, suppress
from copy import deepcopy
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.rows import HUGE
from gradlab.tasks import map_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from gradlab.tasks import Task

MANY = 200  # parameters, above which a Hessian is more than a moment's work
# Of the size of what is compared. In float64 sums of a batch are right to some 1e-13 of it, and what is smaller than
# 1e-9 drowns in the 1e-7 of a float32 training.
TOLERANCE = 1e-9
FLAT = 1e-12  # of the largest curvature: what is smaller is 0, rounded
POINTS = (0.1, 0.1, 1.0, 1.0, 10.0, 10.0)  # where the loss must be that of the quadratic, in distances to its minimum


class Quadratic(NamedTuple):
    """A loss floor + Σ ½·λ·w², w being the errors: distances from the minimum along eigenvectors of the Hessian."""

    curvatures: list[float]  # shape (n,): the eigenvalues λ of the Hessian, greater than 0
    amplitudes: list[float]  # shape (n,): the errors at the start of a training
    floor: float  # the loss at the minimum


def obstacle(settings: Mapping[str, Any]) -> str:
    """Say what in the settings of a run keeps theory from holding, whatever its task; "" where nothing does.

    Theory is that of plain SGD at a constant lr, `vanilla` included.
    """
    given = settings.get("optimizer")
    optimizer: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    name, lr = optimizer.get("name"), optimizer.get("lr")
    if name not in ("SGD", "vanilla"):
        return f"the optimizer is {name}, not plain SGD"
    for option in ("momentum", "dampening", "weight_decay", "nesterov", "maximize"):
        if optimizer.get(option):
            return f"the optimizer has {option} {optimizer[option]}, unlike plain SGD"
    if not isinstance(lr, float | int) or not 0 < lr < HUGE:
        return f"the lr is {lr}"
    if settings.get("clip_norm") is not None:
        return f"gradients are clipped to norm {settings['clip_norm']}"
    if settings.get("schedule") is not None:
        return f"the lr follows the schedule {settings['schedule']}"
    return ""


def measured(task: Task) -> Quadratic | None:
    """Return the quadratic that the task's loss is, of its trainable parameters and as the model stands; else None.

    It is one if an epoch is one batch, the same at each pass, and the loss in float64 at points near and far is that
    of its gradient and Hessian at the start, to a billionth; with a minimum, so that no direction is bent downwards or
    has a slope without being bent. A direction in which nothing changes is left out.

    Two batches at most are drawn in each of two passes, and the loss is called some ten times, so that the task must
    be one built for this alone. The model stays as it is. Whatever the task raises or prints here is passed over: its
    training will tell.
    """
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return _measured(task)
    except (Exception, SystemExit):  # the task is a user's: what it cannot do in float64 is no fault
        return None


def _measured(task: Task) -> Quadratic | None:
    from torch.nn.utils import parameters_to_vector

    trained = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
    if sum(parameter.numel() for parameter in trained) > MANY:
        return None
    with suppress(TypeError):  # batches that do not tell their number are drawn
        if len(task.batches) != 1:  # type: ignore[arg-type]  # that is the TypeError
            return None
    passes = [[map_batch(batch, _in_float64) for batch in islice(task.batches, 2)] for _ in range(2)]
    if any(len(batches) != 1 for batches in passes):
        return None
    loss_at = _evaluator(task, [batches[0] for batches in passes])
    start = parameters_to_vector(trained).detach().double()
    return _solved(start, _model_at(start, loss_at), loss_at)


class _Model(NamedTuple):
    """What the loss is near a point, if it is a quadratic."""

    loss: float
    slope: Tensor  # shape (n,)
    hessian: Tensor  # shape (n, n)

    def after(self, move: Tensor) -> tuple[float, float]:
        """Return the loss at that distance, and the size of the terms that it is the sum of."""
        linear, square = (self.slope @ move).item(), (move @ self.hessian @ move).item() / 2
        return self.loss + linear + square, abs(self.loss) + abs(linear) + abs(square)


def _evaluator(task: Task, batches: Sequence[Any]) -> Callable[[Tensor], Tensor]:
    """Return what gives the loss at a point, in float64 and with a graph, of the batches in turn."""
    import torch
    from torch.func import functional_call

    class Parts(torch.nn.Module):
        """Lets the task's loss have the model with its parameters replaced."""

        def __init__(self) -> None:
            super().__init__()
            self.model = deepcopy(task.model).double()

        def forward(self, batch: Any) -> Any:
            return task.loss(self.model, batch)

    parts, turns = Parts(), cycle(batches)
    named = [(name, each) for name, each in parts.named_parameters() if each.requires_grad]

    def loss_at(point: Tensor) -> Tensor:
        pieces = torch.split(point, [each.numel() for _, each in named])
        replaced = {name: piece.view(each.shape) for (name, each), piece in zip(named, pieces, strict=True)}
        loss = functional_call(parts, replaced, (next(turns),))
        mean: Tensor = loss[0] / loss[1] if isinstance(loss, tuple) else loss  # a pair (sum, count)
        return mean.reshape(())

    return loss_at


def _model_at(point: Tensor, loss_at: Callable[[Tensor], Tensor]) -> _Model:
    import torch

    point = point.clone().requires_grad_()
    loss = loss_at(point)
    (slope,) = torch.autograd.grad(loss, point, create_graph=True)
    rows = [torch.autograd.grad(each, point, retain_graph=True)[0] for each in slope]
    return _Model(loss.item(), slope.detach(), torch.stack(rows))


def _solved(start: Tensor, model: _Model, loss_at: Callable[[Tensor], Tensor]) -> Quadratic | None:
    """Return the quadratic in its own directions, if it has a minimum and the loss is it."""
    import torch

    curvatures, axes = torch.linalg.eigh(model.hessian)
    slopes = axes.T @ model.slope
    largest = curvatures.abs().max()
    bent = curvatures > FLAT * largest
    amplitudes = slopes[bent] / curvatures[bent]
    reach = 1 + start.abs().max() + amplitudes.norm()
    level = TOLERANCE * (largest * reach + model.slope.norm())
    if not bent.any() or curvatures.min() < -FLAT * largest or (slopes[~bent].abs() > level).any():
        return None
    down = -axes[:, bent] @ amplitudes
    generator = torch.Generator().manual_seed(0)
    ways = [torch.randn(len(start), generator=generator, dtype=torch.float64).to(start) for _ in POINTS]
    with torch.no_grad():
        floor = loss_at(start + down).item()
        for move in (down, *(reach * far * way for far, way in zip(POINTS, ways, strict=True))):
            expected, size = model.after(move)
            if not abs(loss_at(start + move).item() - expected) <= TOLERANCE * size:
                return None
    found = Quadratic(curvatures[bent].tolist(), amplitudes.tolist(), floor)
    return found if all(abs(each) < HUGE for each in (*found.curvatures, *found.amplitudes, floor)) else None


def _in_float64(part: Any) -> Any:
    """Return a tensor of floating-point numbers in float64, anything else as it is."""
    import torch

    return part.double() if isinstance(part, torch.Tensor) and part.is_floating_point() else part
