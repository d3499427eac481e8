"""Evaluation of a model between two steps: loss and metrics over the validation batches, or the training batches.

An evaluation leaves the training as it was: all random generators, the mode, buffers and attributes of every module,
and the variables of `gradlab.engines.variables`. So rows are the same with and without it, unless code keeps state
elsewhere, such as in globals.
"""

from __future__ import annotations

import copy
import math
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from gradlab.engines.losses import mean_and_items
from gradlab.engines.resuming import Generators
from gradlab.engines.variables import kept_modules, kept_variables
from gradlab.errors import TaskError, kind_of, shortened, user_location
from gradlab.rows import TRAINING_SET_LOSS, VALIDATION_LOSS
from gradlab.tasks import unverified
from gradlab.tasks.task import SupervisedLoss, check_pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from torch import Tensor, nn

    from gradlab.tasks import Task

    Measure = Callable[[Any, Any], tuple[float, float]]  # from a model and a batch to (sum, count)


class Evaluator:
    """Evaluates models of a task.

    Attributes:
        loss_name: the name of the loss: validation_loss, or training_set_loss without validation batches.
    """

    def __init__(self, task: Task, most: int | None = None) -> None:
        """Evaluate on at most `most` of the training batches; the validation batches always count all."""
        self.task, self.most = task, most
        self.loss_name = TRAINING_SET_LOSS if task.validation is None else VALIDATION_LOSS
        self._training = unverified(task.batches)
        self._generators = Generators(task, task.validation, task.metrics)
        loss = _loss_measure(task.loss)
        self._measures: dict[str, Measure] = {
            self.loss_name: loss if task.validation is None else _naming("the loss of a validation batch", loss)
        }
        for name, metric in task.metrics.items():
            self._measures[name] = _naming(f"metric '{name}'", _metric_measure(name, metric))

    def evaluate(self) -> dict[str, float]:
        """Return the loss and the metrics of the task's model.

        Raises:
            TaskError: a metric is neither a number nor a pair (sum, count), or there are no batches.
        """
        return self._means(self._batches, self._measures)

    def training_set_loss(self, most: int | None = None) -> float:
        """Return the mean loss of the task's model over at most `most` of the training batches.

        Raises:
            TaskError: there are no batches.
        """
        measures = {TRAINING_SET_LOSS: _loss_measure(self.task.loss)}
        return self._means(lambda: self._training_batches(most), measures)[TRAINING_SET_LOSS]

    def check(self) -> list[str]:
        """Evaluate the first batch twice, to find mistakes before training. Return the names of values that differ.

        If one differs, code keeps state that an evaluation does not restore.

        Raises:
            TaskError: a metric or a validation batch raises, a metric is neither a number nor a pair (sum, count) or
                changes what is trained, or there are no batches.
        """
        watched = self._measures | {name: _watched(name, self._measures[name]) for name in self.task.metrics}
        with _named_errors():
            one, other = (self._means(lambda: islice(self._batches(), 1), watched) for _ in range(2))
        return [name for name, value in one.items() if not _are_close(value, other[name])]

    def _batches(self) -> Iterator[Any]:
        if self.task.validation is not None:
            batches = iter_apart(self.task.validation)
            return map(_checked_pair, batches) if isinstance(self.task.loss, SupervisedLoss) else batches
        return self._training_batches()

    def _training_batches(self, most: int | None = None) -> Iterator[Any]:
        return islice(iter_apart(self._training), self.most if most is None else most)

    def _means(self, batches: Callable[[], Iterable[Any]], measures: Mapping[str, Measure]) -> dict[str, float]:
        import torch

        model = self.task.model
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in measures}
        with self.undisturbed(model), torch.no_grad():
            for batch in batches():  # called here, because a DataLoader draws when its iteration begins
                for name, measure in measures.items():
                    found[name].append(measure(model, batch))
        if not all(found.values()):
            what = "training" if self.task.validation is None or TRAINING_SET_LOSS in measures else "validation"
            raise TaskError(
                f"the {what} set has no batch; use a list or a DataLoader, which can be iterated repeatedly"
            )
        return {name: weighted_mean(parts) for name, parts in found.items()}

    @property
    def names(self) -> list[str]:
        """The names of all values of an evaluation."""
        return list(self._measures)

    @contextmanager
    def undisturbed(self, model: nn.Module) -> Iterator[None]:
        """Put the model into eval mode; at the end, restore modes, buffers, generators and variables."""
        generators, own = self._generators, self._generators.now()
        modes = {module: module.training for module in model.modules()}
        restores = [
            *kept_modules(model),
            *kept_variables(self.task.metrics.values()),  # whose lists may collect values
            *kept_variables([self.task.loss], containers=True),
        ]
        try:
            model.eval()
            yield
        finally:
            _restore_modes(model, modes)
            for restore in restores:
                restore()
            generators.set(own)


def iter_apart(batches: Iterable[Any]) -> Iterator[Any]:
    """Return an iterator that leaves another one over the same batches as it is.

    Raises:
        TaskError: the batches are their own iterator.
    """
    if getattr(batches, "persistent_workers", False):  # a DataLoader that would restart its only iterator
        batches = copy.copy(batches)
        batches._iterator = None  # type: ignore[attr-defined]  # noqa: SLF001 - torch has no public name for it
    iterator = iter(batches)
    if iterator is batches:
        raise TaskError(
            "the batches are their own iterator, so an evaluation would use up those of the training; "
            "let __iter__ return a new iterator"
        )
    return iterator


def _checked_pair(batch: Any) -> Any:
    check_pair(batch, "validation batches")
    return batch


def _are_close(one: float, other: float) -> bool:
    """Return whether two values are equal up to rounding, which may differ on a GPU."""
    return math.isclose(one, other, rel_tol=1e-4) or (math.isnan(one) and math.isnan(other))


def weighted_mean(parts: Iterable[tuple[float, float]]) -> float:
    """Return the sum of sums over the sum of counts, in an order that does not matter; NaN if all counts are 0."""
    sums, counts = zip(*parts, strict=True)
    total, count = _exact_sum(sums), _exact_sum(counts)
    return total / count if count else math.nan


def _exact_sum(values: Iterable[float]) -> float:
    values = list(values)
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):  # of infinities
        return sum(values)


def _naming(what: str, measure: Measure) -> Measure:
    """Return a measure whose errors say in a note what raised them."""

    def named(model: nn.Module, batch: Any) -> tuple[float, float]:
        try:
            return measure(model, batch)
        except Exception as error:
            error.add_note(f"raised by {what}")
            raise

    return named


def _watched(name: str, measure: Measure) -> Measure:
    """Return a metric's measure that raises TaskError if it changes the weights or their `.grad`."""

    def watched(model: nn.Module, batch: Any) -> tuple[float, float]:
        import torch

        weights = list(model.parameters())
        contents = [weight.detach().clone() for weight in weights]
        grads, changes = [weight.grad for weight in weights], _changes_of_grads(weights)
        found = measure(model, batch)
        if any(weight.grad is not grad for weight, grad in zip(weights, grads, strict=True)) or (
            _changes_of_grads(weights) != changes
        ):
            raise TaskError(f"metric '{name}' changes .grad, and so the training; use torch.autograd.grad instead")
        if not all(
            torch.allclose(*pair, rtol=0, atol=0, equal_nan=True) for pair in zip(weights, contents, strict=True)
        ):
            raise TaskError(
                f"metric '{name}' changes the model's weights, and so the training; use copy.deepcopy(model)"
            )
        return found

    return watched


def _changes_of_grads(weights: Iterable[Tensor]) -> list[int]:
    """Return how often each `.grad` was changed in place, 0 without one."""
    return [0 if each.grad is None else each.grad._version for each in weights]  # noqa: SLF001 - no public name


@contextmanager
def _named_errors() -> Iterator[None]:
    """Turn errors that a measure has named into a TaskError of one line."""
    try:
        yield
    except TaskError:
        raise
    except Exception as error:
        by = [note.removeprefix("raised by ") for note in getattr(error, "__notes__", ()) if note.startswith("raised")]
        if not by:
            raise
        place = f" ({where})" if (where := user_location(error)) else ""
        why, _, _ = str(error).partition("\n")
        raise TaskError(f"{by[0]} raises {type(error).__name__}: {shortened(why, 200)}{place}") from error


def _loss_measure(loss: Callable[[Any, Any], Any]) -> Measure:
    def measure(model: nn.Module, batch: Any) -> tuple[float, float]:
        found = loss(model, batch)
        mean, items = mean_and_items(found)
        if items is not None:
            return _number(found[0]) or 0.0, items
        total = _number(mean)
        if total is None:
            raise TaskError(f"the task's loss must be a scalar tensor, got {_described(mean)}; take its mean")
        return total, 1

    return measure


def _metric_measure(name: str, metric: Callable[[Any, Any], Any]) -> Measure:
    def measure(model: nn.Module, batch: Any) -> tuple[float, float]:
        found = metric(model, batch)
        parts = found if isinstance(found, tuple) and len(found) == 2 else (found, 1)
        total, count = map(_number, parts)
        if total is None or count is None or not 0 <= count < math.inf:
            raise TaskError(
                f"metric '{name}' must return a number or a pair (sum, count), got {_described(found)}; "
                "take its mean, or return its sum and the number of items"
            )
        return total, count

    return measure


def _number(value: Any) -> float | None:
    """Return a number, or the only element of a tensor or an array; None for other values."""
    if hasattr(value, "item") and math.prod(getattr(value, "shape", ())) == 1:
        value = value.item()
    return float(value) if isinstance(value, int | float) else None


def _described(value: Any) -> str:
    if isinstance(value, tuple):
        return shortened(f"({', '.join(map(_described, value))})", 100)
    return f"a tensor of shape {tuple(value.shape)}" if hasattr(value, "shape") else kind_of(value)


def _restore_modes(model: nn.Module, modes: Mapping[nn.Module, bool]) -> None:
    """Put every module's mode back; `train` first, because modules may do more in it than set the mode."""
    if modes[model]:
        model.train()
    for module, training in modes.items():
        module.training = training
