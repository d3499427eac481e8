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
from gradlab.analysis.quadratic import why_no_theory
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
MAX_PRODUCTS = 500  # Hessian-vector products, each a pass over the batches
MAX_BASIS = 60  # vectors in memory, in float64 and as long as all parameters together
RESTART_BASIS = 12  # vectors that a restart keeps


class Sharpness(NamedTuple):
    """The largest eigenvalue of a Hessian, and how it was found."""

    eigenvalue: float  # λ, in the unit of the loss over that of the weights squared
    residual: float  # ‖Hv − λv‖ for its unit eigenvector v: no further from λ is an eigenvalue
    products: int  # Hessian-vector products
    batches: int  # of an epoch


class LrBound(NamedTuple):
    """The largest stable lr of a mode, and the lr that the experiment has for it."""

    mode: str
    largest_stable_lr: (
        float | None
    )  # 0 where no lr is stable, inf where λ bounds none, None where theory does not know
    lr: float
    why: str  # a remark; "" for a bound below which training settles


class SharpnessReport(NamedTuple):
    """The sharpness of an experiment's seeds and the largest stable lr of its modes."""

    experiment: str
    seeds: dict[int, Sharpness]
    bounds: list[LrBound]

    @property
    def eigenvalue(self) -> float:
        """The median of λ over the seeds."""
        return median(each.eigenvalue for each in self.seeds.values())

    @property
    def batches(self) -> int:
        """How many batches an epoch has."""
        return max(each.batches for each in self.seeds.values())

    def notes(self) -> list[str]:
        """Return remarks, a sentence each: on single modes first, on all of them last."""
        modes: dict[str, list[str]] = {}
        for bound in self.bounds:
            if bound.why:
                modes.setdefault(bound.why, []).append(bound.mode)
        notes = [f"{', '.join(names)}: {why}" for why, names in modes.items()]
        if any(bound.largest_stable_lr for bound in self.bounds):
            if self.batches > 1:
                notes.append(f"an epoch has {self.batches} batches: the lr is that of the full batch, noise lowers it")
            notes.append("beyond it the loss grows from where it starts; as training moves on, so may λ")
        return notes


# Of a task


def measure(task: Task, *, seed: int = 0, tolerance: float = TOLERANCE, max_products: int = MAX_PRODUCTS) -> Sharpness:
    """Return the largest eigenvalue of the Hessian of the task's mean loss over one epoch, at the weights it has.

    The mean is over the batches, or over their items where the loss is a pair (sum, count). The eigenvalue is the most
    positive one, also where a negative one is larger in modulus: it is found by the Lanczos method with full
    reorthogonalisation and thick restarts (Wu & Simon 2000), from products Hv by differentiating twice (Pearlmutter
    1994), a batch at a time. Those are computed in the model's own precision and summed in float64. It stops when
    ‖Hv − λv‖ ≤ `tolerance`·|λ|, or when no more than rounding is left of it.

    The model is measured as the task built it, dropout and batch norm included. All generators and the model's
    buffers are restored before each pass over the batches and at the end, so that every pass sees the same; `.grad`
    is not touched. Parameters that no loss uses are flat directions; those without `requires_grad` are none.

    Args:
        task: on any device.
        seed: of the start vector, on which λ depends by less than the tolerance.
        tolerance: relative to λ.
        max_products: the limit on Hessian-vector products.

    Raises:
        TaskError: the loss or a second derivative is not finite, the loss cannot be differentiated twice or is another
            at each pass over the batches, or λ has not settled after that many products.
    """
    import torch

    parameters = [each for each in task.model.parameters() if each.requires_grad]
    if any(each.is_complex() for each in parameters):
        raise TaskError("the model has complex parameters, of which there is no sharpness here; use real ones")
    generators = Generators(task)
    state, buffers = generators.now(), [(each, each.detach().clone()) for each in task.model.buffers()]
    passes: list[tuple[float, float, int]] = []  # loss, size and batches of each pass over the batches

    def restore() -> None:
        generators.set(state)
        for buffer, value in buffers:
            buffer.detach().copy_(value)

    def product(vector: Tensor) -> Tensor:
        restore()
        found, about = _epoch_product(task, parameters, vector)
        passes.append(about)
        (loss, *_), (first, size, _) = about, passes[0]
        if abs(loss - first) > tolerance * size:
            raise TaskError(
                f"the loss is another at each pass over the batches: {first:.6g}, then {loss:.6g}; "
                "draw all that is random from generators that the task holds"
            )
        return found

    start = torch.randn(
        sum(each.numel() for each in parameters),
        generator=torch.Generator().manual_seed(seed),
        dtype=torch.float64,
    )
    rounding = max(torch.finfo(each.dtype).eps for each in parameters)
    try:
        value, residual = largest_eigenvalue(product, start, tolerance, rounding, max_products)
    finally:
        restore()
    return Sharpness(value, residual, len(passes), passes[0][2])


def largest_eigenvalue(
    product: Callable[[Tensor], Tensor], start: Tensor, tolerance: float, rounding: float, max_products: int
) -> tuple[float, float]:
    """Return the largest eigenvalue λ of a symmetric matrix, and ‖Hv − λv‖ for the vector v that goes with it.

    Args:
        product: the matrix H times a vector, both of shape (n,) and in float64.
        start: shape (n,); in float64, not 0, and with a component along the eigenvector, as a random one has.
        tolerance: ‖Hv − λv‖/|λ| at which it stops.
        rounding: the relative error of a product, or less: ‖Hv − λv‖ over the largest modulus at which it stops too.
        max_products: the limit on products.

    Raises:
        TaskError: it has not converged after that many products.
    """
    import torch

    basis = (start / start.norm()).unsqueeze(0)
    projected = start.new_zeros(0, 0)  # H within the space that the basis spans
    for _ in range(max_products):
        image = product(basis[-1])
        column = basis @ image
        projected = torch.nn.functional.pad(projected, (0, 1, 0, 1))
        projected[-1, :] = projected[:, -1] = column
        rest = image - column @ basis
        rest -= (basis @ rest) @ basis  # twice is enough (Parlett 1980)
        values, vectors = torch.linalg.eigh(projected)
        length = float(rest.norm())
        value, residual = float(values[-1]), length * abs(float(vectors[-1, -1]))
        size = float(values.abs().max())
        if residual <= max(tolerance * abs(value), rounding * size) or len(basis) == len(start):
            return value, residual
        if len(basis) >= MAX_BASIS:
            basis, projected = vectors[:, -RESTART_BASIS:].T @ basis, torch.diag(values[-RESTART_BASIS:])
        basis = torch.cat([basis, (rest / length).unsqueeze(0)])
    raise TaskError(
        f"sharpness has not settled after {max_products} products of Hessian and vector: {value:.4g} ± {residual:.2g}"
    )


def _epoch_product(
    task: Task, parameters: Sequence[nn.Parameter], vector: Tensor
) -> tuple[Tensor, tuple[float, float, int]]:
    """Return the Hessian of the mean loss of an epoch times the vector, in float64 on the CPU.

    With it come the mean loss, the mean of the losses' moduli, and the number of batches.
    """
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
        total += share * _batch_product(mean, parameters, along)
        loss, size, weight, batches = loss + share * value, size + share * abs(value), weight + share, batches + 1
    if not batches:
        raise no_batch(0)
    if not total.isfinite().all():
        raise TaskError(
            f"the loss is {loss / weight:.4g} at the initial weights, but its second derivative is not finite"
        )
    return total / weight, (loss / weight, size / weight, batches)


def _batch_product(loss: Tensor, parameters: Sequence[nn.Parameter], along: Sequence[Tensor]) -> Tensor:
    """Return the Hessian of one batch's loss times a vector, flat and in float64 on the CPU."""
    import torch

    try:
        gradients = torch.autograd.grad(loss.reshape(()), parameters, create_graph=True, allow_unused=True)
        terms = [
            (gradient * each).sum()
            for gradient, each in zip(gradients, along, strict=True)
            if gradient is not None and gradient.requires_grad  # type: ignore[redundant-expr]  # None where unused
        ]
        _check_twice_differentiable(terms)
        found = torch.autograd.grad(terms, parameters, allow_unused=True) if terms else [None] * len(parameters)
    except RuntimeError as error:
        raise TaskError(
            f"the loss cannot be differentiated twice: {shortened(str(error).splitlines()[0], 200)}"
        ) from None
    flat = [
        (torch.zeros_like(each) if part is None else part.to_dense()).reshape(-1)
        for part, each in zip(found, parameters, strict=True)
    ]
    return torch.cat([part.detach().to("cpu", torch.float64) for part in flat])


def _check_twice_differentiable(sums: Sequence[Tensor]) -> None:
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


def measure_seeds(experiment: Experiment) -> Iterator[tuple[int, Sharpness]]:
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
            yield seed, measure(_to_device(task, experiment.device), seed=seed)
        except GradlabError:
            raise
        except Exception as error:  # the task is a user's
            raise TaskError(f"task '{experiment.task_name.name}' failed\n{users_traceback(error)}") from None


def _to_device(task: Task, device: str) -> Task:
    try:
        return task.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = shortened(str(error).splitlines()[0], 100)
        raise ExperimentError(f"device '{device}' is not to be had here: {reason}") from None


def report(experiment: Experiment, seeds: Mapping[int, Sharpness]) -> SharpnessReport:
    """Return the sharpness of these seeds with the largest stable lr of each of the experiment's modes."""
    found = SharpnessReport(experiment.name, dict(seeds), [])
    return found._replace(
        bounds=[_lr_bound(experiment, mode, found.eigenvalue, found.batches) for mode in experiment.parsed_modes]
    )


def document(found: SharpnessReport) -> dict[str, Any]:
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
            {"mode": each.mode, "lr": each.lr, "largest_stable_lr": each.largest_stable_lr, "why": each.why}
            for each in found.bounds
        ],
    }


def _lr_bound(experiment: Experiment, mode: Mode, eigenvalue: float, batches: int) -> LrBound:
    """Return the largest stable lr of the mode, where theory knows it."""
    lr = experiment.optimizer_options(mode)["lr"]
    settings = experiment.settings(mode, experiment.seeds[0])
    momentum, gradient_share, wrong = _momentum_and_gradient_share(settings)
    if not wrong and mode.own:
        wrong = "what it leaves in .grad is your own"
    if wrong:
        return LrBound(mode.name, None, lr, f"no theory: {wrong}")
    edge = theory.largest_stable_lr(1.0, mode.keep, momentum)  # of a curvature of 1
    if not edge:
        return LrBound(mode.name, 0.0, lr, "it diverges at every lr: too much is kept")
    for_ever = max(mode.keep, momentum) == 1
    if for_ever and batches > mode.every:
        return LrBound(
            mode.name, 0.0, lr, "on mini-batches no lr is safe: nothing that is kept dies out, nor does noise"
        )
    if eigenvalue <= 0:
        return LrBound(mode.name, math.inf, lr, "no direction is bent upwards at the initial weights: λ bounds no lr")
    window = 1 if mode.mean else min(mode.every, batches)  # a window ends with its epoch
    largest = edge / (eigenvalue * gradient_share * window)
    return LrBound(mode.name, largest, lr, "below it, it oscillates for ever and never settles" if for_ever else "")


def _momentum_and_gradient_share(settings: Mapping[str, Any]) -> tuple[float, float, str]:
    """Return momentum, the share of a gradient that dampening leaves, and why no theory holds, or ""."""
    optimizer = dict(settings["optimizer"])
    momentum, dampening = (optimizer.pop(each, 0.0) for each in ("momentum", "dampening"))
    wrong = why_no_theory({**settings, "optimizer": optimizer})
    if not momentum:
        return 0.0, 1.0, wrong  # nor does torch dampen then
    if not wrong and not dampening < 1:
        wrong = f"the optimizer has dampening {dampening}, which leaves nothing of a gradient"
    return momentum, 1 - dampening, wrong
