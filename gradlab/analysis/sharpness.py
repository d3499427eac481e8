"""Sharpness: the largest eigenvalue λ of the Hessian of a task's loss, and the largest stable lr that follows.

λ is measured at the weights that the task starts from, on the mean loss of a whole epoch. On a quadratic it is the
same everywhere, and the edge of stability lr·λ = 2·(1 + keep) is exact; else it moves as training goes on.
"""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import tasks
from gradlab.analysis import theory
from gradlab.analysis.quadratic import obstacle
from gradlab.engines.cursor import no_batch
from gradlab.engines.losses import check_scalar, mean_and_items
from gradlab.engines.resuming import Generators
from gradlab.errors import ExperimentError, GradlabError, TaskError, shortened, users_traceback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from gradlab.experiment import Experiment
    from gradlab.modes import Mode
    from gradlab.tasks import Task

TOLERANCE = 1e-4  # of λ: how far from an eigenvalue it may be. Its error is the square of that where others are apart
MOST = 500  # Hessian-vector products, each a pass over the batches
BASIS = 60  # vectors as long as all parameters together, in float64: what is kept in memory
KEPT = 12  # of them, when there is no room for more


class Sharpness(NamedTuple):
    """The largest eigenvalue of a Hessian, and what it rests on."""

    eigenvalue: float  # λ, in the unit of the loss over that of the weights squared
    residual: float  # ‖Hv − λv‖ for the vector v of length 1 that goes with it: an eigenvalue is as near to λ
    products: int  # Hessian-vector products
    batches: int  # of an epoch


class Bound(NamedTuple):
    """The largest stable lr of a mode, and the lr that the experiment has for it."""

    mode: str
    largest: float | None  # 0 where no lr is stable, inf where λ bounds none, None where theory does not know
    lr: float
    why: str  # what there is to say of it; "" for a bound below which training settles


class Report(NamedTuple):
    """What `gradlab sharpness` tells of an experiment."""

    experiment: str
    seeds: dict[int, Sharpness]
    bounds: list[Bound]

    @property
    def eigenvalue(self) -> float:
        """The median of λ over the seeds."""
        return median(each.eigenvalue for each in self.seeds.values())

    @property
    def batches(self) -> int:
        """How many batches an epoch has."""
        return max(each.batches for each in self.seeds.values())

    def notes(self) -> list[str]:
        """Say in a sentence each what the numbers do not: of modes first, of all of them last."""
        modes: dict[str, list[str]] = {}
        for bound in self.bounds:
            if bound.why:
                modes.setdefault(bound.why, []).append(bound.mode)
        told = [f"{', '.join(those)}: {why}" for why, those in modes.items()]
        if any(bound.largest for bound in self.bounds):
            if self.batches > 1:
                told.append(f"an epoch has {self.batches} batches: the lr is that of the full batch, noise lowers it")
            told.append("beyond it the loss grows from where it starts; as training moves on, so may λ")
        return told


# Of a task


def measured(task: Task, *, seed: int = 0, tolerance: float = TOLERANCE, most: int = MOST) -> Sharpness:
    """Return the largest eigenvalue of the Hessian of the task's mean loss over one epoch, at the weights it has.

    The mean is over the batches, or over their items where the loss is a pair (sum, count). The eigenvalue is the most
    positive one, also where a negative one is larger in modulus: it is found by the Lanczos method with full
    reorthogonalisation and thick restarts (Wu & Simon 2000), from products Hv by differentiating twice (Pearlmutter
    1994), a batch at a time. Those are computed in the model's own precision and summed in float64. It stops when
    ‖Hv − λv‖ ≤ `tolerance`·|λ|, or when no more than rounding is left of it.

    The model is taken as the task built it: where it drops out, it drops out, where it normalises by batches, it does
    that, as in training. All generators are put back before each pass over the batches, so that each draws the same
    ones, and the same of what else is random, and at the end, as are the model's buffers; `.grad` is not touched. The
    start vector comes from a generator of its own, seeded with `seed`. Parameters that no loss uses are flat
    directions; those without `requires_grad` are none.

    Args:
        task: on whatever device it is.
        seed: of the start vector, on which λ depends by less than the tolerance.
        tolerance: relative to λ.
        most: Hessian-vector products after which it is given up.

    Raises:
        TaskError: the loss or a second derivative is not finite, the loss cannot be differentiated twice or is another
            at each pass over the batches, or λ has not settled after so many products.
    """
    import torch

    parameters = [each for each in task.model.parameters() if each.requires_grad]
    if any(each.is_complex() for each in parameters):
        raise TaskError("the model has complex parameters, of which there is no sharpness here; use real ones")
    generators = Generators(task)
    state, buffers = generators.now(), [(each, each.detach().clone()) for each in task.model.buffers()]
    losses: list[tuple[float, float]] = []

    def as_before() -> None:
        generators.set(state)
        for buffer, value in buffers:
            buffer.detach().copy_(value)

    def product(vector: Tensor) -> Tensor:
        as_before()
        found = _pass(task, parameters, vector)
        losses.append((found.loss, found.size))
        if abs(found.loss - losses[0][0]) > tolerance * losses[0][1]:
            raise TaskError(
                f"the loss is another at each pass over the batches: {losses[0][0]:.6g}, then {found.loss:.6g}; "
                "draw all that is random from generators that the task holds"
            )
        batches.append(found.batches)
        return found.product

    batches: list[int] = []
    start = torch.randn(
        sum(each.numel() for each in parameters),
        generator=torch.Generator().manual_seed(seed),
        dtype=torch.float64,
    )
    rounding = max(torch.finfo(each.dtype).eps for each in parameters)
    try:
        value, residual = largest_eigenvalue(product, start, tolerance, rounding, most)
    finally:
        as_before()
    return Sharpness(value, residual, len(batches), batches[0])


def largest_eigenvalue(
    product: Callable[[Tensor], Tensor], start: Tensor, tolerance: float, rounding: float, most: int
) -> tuple[float, float]:
    """Return the largest eigenvalue λ of a symmetric matrix, and ‖Hv − λv‖ for the vector v that goes with it.

    Args:
        product: the matrix H times a vector, both of shape (n,) and in float64.
        start: shape (n,); in float64, not 0, and with a share in the direction looked for, as a random one has.
        tolerance: ‖Hv − λv‖/|λ| at which it stops.
        rounding: the relative error of a product, or less: ‖Hv − λv‖ over the largest modulus at which it stops too.
        most: products at most.

    Raises:
        TaskError: after so many products it has not stopped.
    """
    import torch

    basis = (start / start.norm()).unsqueeze(0)
    projected = start.new_zeros(0, 0)  # H within the space that the basis spans
    for _ in range(most):
        image = product(basis[-1])
        column = basis @ image
        projected = torch.nn.functional.pad(projected, (0, 1, 0, 1))
        projected[-1, :] = projected[:, -1] = column
        left = image - column @ basis
        left -= (basis @ left) @ basis  # twice is enough (Parlett 1980)
        values, vectors = torch.linalg.eigh(projected)
        length = float(left.norm())
        value, residual = float(values[-1]), length * abs(float(vectors[-1, -1]))
        size = float(values.abs().max())
        if residual <= max(tolerance * abs(value), rounding * size) or len(basis) == len(start):
            return value, residual
        if len(basis) >= BASIS:
            basis, projected = vectors[:, -KEPT:].T @ basis, torch.diag(values[-KEPT:])
        basis = torch.cat([basis, (left / length).unsqueeze(0)])
    raise TaskError(
        f"sharpness has not settled after {most} products of Hessian and vector: {value:.4g} ± {residual:.2g}"
    )


class _Pass(NamedTuple):
    """What one pass over the batches gives."""

    product: Tensor  # shape (n,), in float64 on the CPU
    loss: float
    size: float  # the mean of the loss's moduli
    batches: int


def _pass(task: Task, parameters: Sequence[nn.Parameter], vector: Tensor) -> _Pass:
    """Return the Hessian of the mean loss of an epoch times the vector, and that loss."""
    import torch

    parts = torch.split(vector, [each.numel() for each in parameters])
    along = [part.view(each.shape).to(each) for part, each in zip(parts, parameters, strict=True)]
    total = torch.zeros_like(vector)
    loss = size = weight = 0.0
    batches = 0
    for batch in task.batches:
        mean, items = mean_and_items(task.loss(task.model, batch), batches)
        check_scalar(mean)
        value, share = mean.item(), items or 1.0
        if not math.isfinite(value):
            raise TaskError(
                f"the loss is {value} at the initial weights, in batch {batches}: it has no curvature there"
            )
        total += share * _twice(mean, parameters, along)
        loss, size, weight, batches = loss + share * value, size + share * abs(value), weight + share, batches + 1
    if not batches:
        raise no_batch(0)
    if not total.isfinite().all():
        raise TaskError(
            f"the loss is {loss / weight:.4g} at the initial weights, but its second derivative is not finite"
        )
    return _Pass(total / weight, loss / weight, size / weight, batches)


def _twice(loss: Tensor, parameters: Sequence[nn.Parameter], along: Sequence[Tensor]) -> Tensor:
    """Return the Hessian of one batch's loss times a vector, flat and in float64 on the CPU."""
    import torch

    try:
        slopes = torch.autograd.grad(loss.reshape(()), parameters, create_graph=True, allow_unused=True)
        bent = [
            (slope * each).sum()
            for slope, each in zip(slopes, along, strict=True)
            if slope is not None and slope.requires_grad  # type: ignore[redundant-expr]  # None where it is unused
        ]
        _check_twice(bent)
        found = torch.autograd.grad(bent, parameters, allow_unused=True) if bent else [None] * len(parameters)
    except RuntimeError as error:
        raise TaskError(
            f"the loss cannot be differentiated twice: {shortened(str(error).splitlines()[0], 200)}"
        ) from None
    flat = [
        (torch.zeros_like(each) if part is None else part.to_dense()).reshape(-1)
        for part, each in zip(found, parameters, strict=True)
    ]
    return torch.cat([part.detach().to("cpu", torch.float64) for part in flat])


def _check_twice(sums: Sequence[Tensor]) -> None:
    """Raise RuntimeError where a function forbids a second derivative: torch would go round it and find 0."""
    waiting, seen = [each.grad_fn for each in sums], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if type(node).__name__ == "Error":
            raise RuntimeError("a function in it is marked with @once_differentiable")
        waiting += [each for each, _ in node.next_functions]


# Of an experiment


def seeds_of(experiment: Experiment) -> Iterator[tuple[int, Sharpness]]:
    """Yield the sharpness of the experiment's task for each of its seeds.

    Raises:
        GradlabError: what a user can fix: the task, its options, the device, or what the task raises.
    """
    import torch

    torch.set_num_threads(experiment.threads)  # as in a run of it
    tasks.check_options(experiment.task_name, experiment.task_options)
    for seed in experiment.seeds:
        try:
            task = tasks.build(experiment.task_name, seed, experiment.task_options)
            yield seed, measured(_placed(task, experiment.device), seed=seed)
        except GradlabError:
            raise
        except Exception as error:  # the task is a user's
            raise TaskError(f"task '{experiment.task_name.name}' failed\n{users_traceback(error)}") from None


def _placed(task: Task, device: str) -> Task:
    try:
        return task.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = shortened(str(error).splitlines()[0], 100)
        raise ExperimentError(f"device '{device}' is not to be had here: {reason}") from None


def report(experiment: Experiment, seeds: Mapping[int, Sharpness]) -> Report:
    """Return the sharpness of these seeds with the largest stable lr of each of the experiment's modes."""
    found = Report(experiment.name, dict(seeds), [])
    return found._replace(
        bounds=[_bound(experiment, mode, found.eigenvalue, found.batches) for mode in experiment.parsed_modes]
    )


def document(found: Report) -> dict[str, Any]:
    """Return the report in plain values, as `gradlab sharpness --json` prints it."""
    return {
        "experiment": found.experiment,
        "batches": found.batches,
        "seeds": [
            {"seed": seed, "sharpness": each.eigenvalue, "residual": each.residual, "products": each.products}
            for seed, each in found.seeds.items()
        ],
        "sharpness": found.eigenvalue,
        "modes": [
            {"mode": each.mode, "lr": each.lr, "largest_stable_lr": each.largest, "why": each.why}
            for each in found.bounds
        ],
    }


def _bound(experiment: Experiment, mode: Mode, eigenvalue: float, batches: int) -> Bound:
    """Return the largest stable lr of the mode, where theory knows it."""
    lr = experiment.optimizer_options(mode)["lr"]
    settings = experiment.settings(mode, experiment.seeds[0])
    momentum, fresh, wrong = _heavy_ball(settings)
    if not wrong and mode.own:
        wrong = "what it leaves in .grad is your own"
    if wrong:
        return Bound(mode.name, None, lr, f"no theory: {wrong}")
    edge = theory.largest_stable_lr(1.0, mode.keep, momentum)  # of a curvature of 1
    if not edge:
        return Bound(mode.name, 0.0, lr, "it diverges at every lr: too much is kept")
    for_ever = max(mode.keep, momentum) == 1
    if for_ever and batches > mode.every:
        return Bound(
            mode.name, 0.0, lr, "on mini-batches no lr is safe: nothing that is kept dies out, nor does noise"
        )
    if eigenvalue <= 0:
        return Bound(mode.name, math.inf, lr, "no direction is bent upwards at the initial weights: λ bounds no lr")
    window = 1 if mode.mean else min(mode.every, batches)  # a window ends with its epoch
    largest = edge / (eigenvalue * fresh * window)
    return Bound(mode.name, largest, lr, "below it, it oscillates for ever and never settles" if for_ever else "")


def _heavy_ball(settings: Mapping[str, Any]) -> tuple[float, float, str]:
    """Return momentum and the share of a gradient that dampening leaves, and why there is no theory, or ""."""
    optimizer = dict(settings["optimizer"])
    momentum, dampening = (optimizer.pop(each, 0.0) for each in ("momentum", "dampening"))
    wrong = obstacle({**settings, "optimizer": optimizer})
    if not momentum:
        return 0.0, 1.0, wrong  # nor does torch dampen then
    if not wrong and not dampening < 1:
        wrong = f"the optimizer has dampening {dampening}, which leaves nothing of a gradient"
    return momentum, 1 - dampening, wrong
