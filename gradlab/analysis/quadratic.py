"""Find out whether a task's full-batch loss is a quadratic, and measure the numbers that theory needs.

This happens when a run is trained. The numbers are saved with it, so drawing theory later needs no torch.
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

MAX_PARAMETERS = 200  # with more, the Hessian is slow to compute
# Relative: far above rounding in float64 (1e-13 for the sum of a batch), far below rounding in float32 (1e-7).
TOLERANCE = 1e-9
ZERO_CURVATURE = 1e-12  # relative to the largest curvature: smaller ones are rounding errors
PROBE_DISTANCES = (0.1, 0.1, 1.0, 1.0, 10.0, 10.0)  # of the compared points, relative to the minimum's distance


class Quadratic(NamedTuple):
    """A loss floor + Σ ½·λ·w². The errors w are distances from the minimum along the Hessian's eigenvectors."""

    curvatures: list[float]  # shape (n,): the positive eigenvalues λ of the Hessian
    amplitudes: list[float]  # shape (n,): the errors at the start of training
    floor: float  # the loss at the minimum


def why_no_theory(settings: Mapping[str, Any]) -> str:
    """Return why theory does not cover a run's settings, for any task; "" if it does.

    Theory covers plain SGD at a constant lr, including `vanilla`.
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
    if (schedule := settings.get("schedule")) is not None:
        return f"the lr follows the schedule {schedule.get('name') if isinstance(schedule, Mapping) else schedule}"
    return ""


def measure(task: Task) -> Quadratic | None:
    """Return the task's loss as a quadratic in the trainable parameters, or None if it is not quadratic.

    An epoch must be one batch, the same in every pass. The loss in float64 at near and far points must follow from its
    gradient and Hessian at the start, to a relative 1e-9. The loss must have a minimum: no negative curvature, and no
    gradient along a direction without curvature. Flat directions are left out.

    This draws up to two batches in each of two passes and calls the loss about ten times. So build a task only for
    this; its model does not change. The task's errors and output are suppressed: training will show them.
    """
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return _measure(task)
    except (Exception, SystemExit):  # user code: failing in float64 is no error
        return None


def _measure(task: Task) -> Quadratic | None:
    from torch.nn.utils import parameters_to_vector

    trained = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
    if sum(parameter.numel() for parameter in trained) > MAX_PARAMETERS:
        return None
    with suppress(TypeError):  # batches without a length are counted below
        if len(task.batches) != 1:  # type: ignore[arg-type]  # raises the suppressed TypeError
            return None
    passes = [[map_batch(batch, _in_float64) for batch in islice(task.batches, 2)] for _ in range(2)]
    if any(len(batches) != 1 for batches in passes):
        return None
    loss_at = _loss_function(task, [batches[0] for batches in passes])
    start = parameters_to_vector(trained).detach().double()
    return _fit(start, loss_at)


def _loss_function(task: Task, batches: Sequence[Any]) -> Callable[[Tensor], Tensor]:
    """Return the loss as a function of the parameters, in float64, with a graph; calls cycle through the batches."""
    import torch
    from torch.func import functional_call

    class BatchLoss(torch.nn.Module):
        """The task's loss as a module, so `functional_call` can replace the model's parameters."""

        def __init__(self) -> None:
            super().__init__()
            self.model = deepcopy(task.model).double()

        def forward(self, batch: Any) -> Any:
            return task.loss(self.model, batch)

    module, turns = BatchLoss(), cycle(batches)
    named = [(name, each) for name, each in module.named_parameters() if each.requires_grad]

    def loss_at(point: Tensor) -> Tensor:
        parts = torch.split(point, [each.numel() for _, each in named])
        replaced = {name: part.view(each.shape) for (name, each), part in zip(named, parts, strict=True)}
        loss = functional_call(module, replaced, (next(turns),))
        mean: Tensor = loss[0] / loss[1] if isinstance(loss, tuple) else loss  # a pair (sum, count)
        return mean.reshape(())

    return loss_at


def _fit(start: Tensor, loss_at: Callable[[Tensor], Tensor]) -> Quadratic | None:
    """Return the quadratic that the loss follows; None if the loss is not quadratic or has no minimum."""
    import torch

    point = start.clone().requires_grad_()
    loss = loss_at(point)
    (gradient,) = torch.autograd.grad(loss, point, create_graph=True)
    hessian = torch.stack([torch.autograd.grad(each, point, retain_graph=True)[0] for each in gradient])
    value, gradient = loss.item(), gradient.detach()
    curvatures, axes = torch.linalg.eigh(hessian)
    gradients = axes.T @ gradient
    largest = curvatures.abs().max()
    bent = curvatures > ZERO_CURVATURE * largest
    amplitudes = gradients[bent] / curvatures[bent]
    reach = 1 + start.abs().max() + amplitudes.norm()
    level = TOLERANCE * (largest * reach + gradient.norm())
    if not bent.any() or curvatures.min() < -ZERO_CURVATURE * largest or (gradients[~bent].abs() > level).any():
        return None
    down = -axes[:, bent] @ amplitudes
    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(len(start), generator=generator, dtype=torch.float64).to(start) for _ in PROBE_DISTANCES]
    with torch.no_grad():
        floor = loss_at(start + down).item()
        for move in (down, *(reach * far * way for far, way in zip(PROBE_DISTANCES, directions, strict=True))):
            terms = value, (gradient @ move).item(), (move @ hessian @ move).item() / 2
            if not abs(loss_at(start + move).item() - sum(terms)) <= TOLERANCE * sum(map(abs, terms)):
                return None
    found = Quadratic(curvatures[bent].tolist(), amplitudes.tolist(), floor)
    return found if all(abs(each) < HUGE for each in (*found.curvatures, *found.amplitudes, floor)) else None


def _in_float64(part: Any) -> Any:
    """Return a floating-point tensor in float64, anything else unchanged."""
    import torch

    return part.double() if isinstance(part, torch.Tensor) and part.is_floating_point() else part
