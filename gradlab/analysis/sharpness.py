"""Sharpness: the largest eigenvalue λ of the Hessian of a task's loss, and the largest stable lr that follows.

λ is measured at the initial weights, on the mean loss of a whole epoch. On a quadratic it is constant, and the edge of
stability lr·λ = 2·(1 + keep) is exact. Otherwise λ changes during training.
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

TOLERANCE = 1e-4  # ‖Hv − λv‖ relative to λ; the error of λ is about its square if other eigenvalues are not close
MAX_PRODUCTS = 500  # Hessian-vector products; each is a pass over the batches
MAX_BASIS = 60  # vectors in memory, in float64, each with an element per parameter
RESTART_BASIS = 12  # vectors kept at a restart


class Sharpness(NamedTuple):
    """The largest eigenvalue of a Hessian, and its accuracy and cost."""

    eigenvalue: float  # λ, in units of loss / weight²
    residual: float  # ‖Hv − λv‖ for the unit vector v; an eigenvalue lies within this distance of λ
    products: int  # number of Hessian-vector products
    batches: int  # per epoch


class LrBound(NamedTuple):
    """The largest stable lr of a mode, and the lr that the experiment uses.

    Attributes:
        mode: the mode's name.
        largest_stable_lr: 0 if no lr is stable, inf if λ sets no limit, None if theory has no answer.
        lr: the experiment's lr in this mode.
        why: a remark; "" if training settles below the limit.
    """

    mode: str
    largest_stable_lr: float | None
    lr: float
    why: str


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
        """Batches per epoch."""
        return max(each.batches for each in self.seeds.values())

    def notes(self) -> list[str]:
        """Return remarks of one sentence each: first on single modes, then on all."""
        modes: dict[str, list[str]] = {}
        for bound in self.bounds:
            if bound.why:
                modes.setdefault(bound.why, []).append(bound.mode)
        notes = [f"{', '.join(names)}: {why}" for why, names in modes.items()]
        if any(bound.largest_stable_lr for bound in self.bounds):
            if self.batches > 1:
                notes.append(f"an epoch has {self.batches} batches: the limit is for the full batch, noise lowers it")
            notes.append("above the limit, the loss grows from its start; λ may change during training")
        return notes


# Of a task


def measure(task: Task, *, seed: int = 0, tolerance: float = TOLERANCE, max_products: int = MAX_PRODUCTS) -> Sharpness:
    """Return the largest eigenvalue of the Hessian of the task's mean loss over one epoch, at its current weights.

    The mean is over the batches, or over their items if the loss is a pair (sum, count). The eigenvalue is the most
    positive one, even if a negative one has a larger modulus.

    The method is Lanczos with full reorthogonalisation and thick restarts (Wu & Simon 2000). Products Hv come from
    double differentiation (Pearlmutter 1994), one batch at a time. They are computed in the model's precision and
    summed in float64. The iteration stops at ‖Hv − λv‖ ≤ `tolerance`·|λ|, or at rounding error.

    The model is measured as the task built it, including dropout and batch norm. All generators and buffers are
    restored before each pass over the batches and at the end, so all passes agree. `.grad` does not change. Unused
    parameters count as flat directions; parameters without `requires_grad` are ignored.

    Args:
        task: the task, on any device.
        seed: seed of the start vector; it changes λ by less than the tolerance.
        tolerance: largest ‖Hv − λv‖, relative to |λ|.
        max_products: the limit on Hessian-vector products.

    Raises:
        TaskError: the loss or a second derivative is not finite; the loss cannot be differentiated twice; it differs
            between passes over the batches; or λ has not converged after `max_products`.
    """
    import torch

    parameters = [each for each in task.model.parameters() if each.requires_grad]
    if any(each.is_complex() for each in parameters):
        raise TaskError("the model has complex parameters, which sharpness does not support; use real parameters")
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
                f"the loss differs between passes over the batches: {first:.6g}, then {loss:.6g}; "
                "draw random numbers only from the task's own or global generators"
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
    """Return the largest eigenvalue λ of a symmetric matrix H, and ‖Hv − λv‖ for its vector v.

    Args:
        product: returns H times a vector; both have shape (n,), in float64.
        start: start vector of shape (n,), in float64, with a component along the eigenvector; use a random one.
        tolerance: stop at this ‖Hv − λv‖, relative to |λ|.
        rounding: relative error of a product; also stop at this ‖Hv − λv‖, relative to the largest modulus.
        max_products: the limit on products.

    Raises:
        TaskError: λ has not converged after `max_products`.
    """
    import torch

    basis = (start / start.norm()).unsqueeze(0)
    projected = start.new_zeros(0, 0)  # H projected onto the basis
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
        f"sharpness has not converged after {max_products} Hessian-vector products: {value:.4g} ± {residual:.2g}"
    )


def _epoch_product(
    task: Task, parameters: Sequence[nn.Parameter], vector: Tensor
) -> tuple[Tensor, tuple[float, float, int]]:
    """Return the Hessian of an epoch's mean loss times the vector, in float64 on the CPU.

    Also return the mean loss, the mean of its absolute values, and the number of batches.
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
                f"the loss of batch {batches} is {value} at the initial weights, so it has no curvature there"
            )
        total += share * _batch_product(mean, parameters, along)
        loss, size, weight, batches = loss + share * value, size + share * abs(value), weight + share, batches + 1
    if not batches:
        raise no_batch(0)
    if not total.isfinite().all():
        raise TaskError(
            f"the second derivative of the loss is not finite at the initial weights; the loss is {loss / weight:.4g}"
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
    """Raise RuntimeError if a function forbids a second derivative: torch would silently return 0."""
    waiting, seen = [each.grad_fn for each in sums], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if type(node).__name__ == "Error":
            raise RuntimeError("it uses a function marked with @once_differentiable")
        waiting += [each for each, _ in node.next_functions]


# Of an experiment


def measure_seeds(experiment: Experiment) -> Iterator[tuple[int, Sharpness]]:
    """Yield the sharpness of the experiment's task for each of its seeds.

    Raises:
        GradlabError: the task, its options or the device are invalid, or the task raises an error.
    """
    import torch

    torch.set_num_threads(experiment.threads)  # as in a run
    tasks.check_options(experiment.task_name, experiment.task_options)
    for seed in experiment.seeds:
        try:
            task = tasks.build(experiment.task_name, seed, experiment.task_options)
            yield seed, measure(_to_device(task, experiment.device), seed=seed)
        except GradlabError:
            raise
        except (Exception, SystemExit) as error:  # user code
            raise TaskError(f"task '{experiment.task_name.name}' failed\n{users_traceback(error)}") from None


def _to_device(task: Task, device: str) -> Task:
    try:
        return task.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = shortened(str(error).splitlines()[0], 100)
        raise ExperimentError(f"device '{device}' is not available: {reason}") from None


def report(experiment: Experiment, seeds: Mapping[int, Sharpness]) -> SharpnessReport:
    """Return the sharpness of these seeds and the largest stable lr of each of the experiment's modes."""
    found = SharpnessReport(experiment.name, dict(seeds), [])
    return found._replace(
        bounds=[_lr_bound(experiment, mode, found.eigenvalue, found.batches) for mode in experiment.parsed_modes]
    )


def document(found: SharpnessReport) -> dict[str, Any]:
    """Return the report as plain values: the JSON of `gradlab sharpness --json`."""
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
    """Return the largest stable lr of the mode, if theory has an answer."""
    lr = experiment.optimizer_options(mode)["lr"]
    settings = experiment.settings(mode, experiment.seeds[0])
    momentum, gradient_share, wrong = _momentum_and_gradient_share(settings)
    if not wrong and mode.own:
        wrong = "the mode is your own function"
    if wrong:
        return LrBound(mode.name, None, lr, f"no theory: {wrong}")
    edge = theory.largest_stable_lr(1.0, mode.keep, momentum)  # for curvature 1
    if not edge:
        return LrBound(mode.name, 0.0, lr, "it diverges at every lr: keep is too large")
    for_ever = max(mode.keep, momentum) == 1
    if for_ever and batches > mode.every:
        return LrBound(
            mode.name, 0.0, lr, "no lr is stable on mini-batches: at keep or momentum 1, noise never decays"
        )
    if eigenvalue <= 0:
        return LrBound(mode.name, math.inf, lr, "λ sets no limit: no direction curves upwards at the initial weights")
    window = 1 if mode.mean else min(mode.every, batches)  # a window ends with its epoch
    largest = edge / (eigenvalue * gradient_share * window)
    return LrBound(mode.name, largest, lr, "below the limit, it oscillates for ever" if for_ever else "")


def _momentum_and_gradient_share(settings: Mapping[str, Any]) -> tuple[float, float, str]:
    """Return momentum, the share of a gradient after dampening, and why theory does not apply, or ""."""
    optimizer = dict(settings["optimizer"])
    momentum, dampening = (optimizer.pop(each, 0.0) for each in ("momentum", "dampening"))
    wrong = why_no_theory({**settings, "optimizer": optimizer})
    if not momentum:
        return 0.0, 1.0, wrong  # torch ignores dampening without momentum
    if not wrong and not dampening < 1:
        wrong = f"the optimizer has dampening {dampening}; it must be below 1"
    return momentum, 1 - dampening, wrong
