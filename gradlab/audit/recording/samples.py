"""Samples: a few elements of gradients, the share of one in another, and checks for inf and nan."""

from __future__ import annotations

import cmath
import math
import weakref
from operator import mul
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    Groups = list[dict[str, Any]]  # an optimizer's param_groups
    Key = tuple[int, int]  # a parameter: which group, and which of its parameters

PROBES = 3  # parameters per optimizer whose gradients are read
UNCHANGED = 4  # usual updates in a row before elements of gradients are no longer read
ELEMENTS = 16  # read per gradient, spread evenly
OFF = 1e-3  # squared relative tolerance for being a multiple of the gradient


class Unread:
    """Stands for elements that were not read, to save time. Its identity shows whether the gradient is unchanged."""


Sample = tuple[Any, ...] | Unread | None  # a few elements of a `.grad`, or None if that is None


def sample(grad: Any) -> Sample:
    """Return a few elements of a gradient as numbers, without a reference to the tensor.

    For a sparse gradient they come from its values: if it was kept, its indices stay the same.
    """
    if grad is None:
        return None
    import torch

    if grad.requires_grad:
        grad = grad.detach()
    if type(grad) is not torch.Tensor and hasattr(grad, "to_local"):  # a DTensor: other processes hold the rest
        grad = grad.to_local()
    if grad.is_cuda and torch.cuda.is_current_stream_capturing():
        return ()
    if grad.layout != torch.strided:
        if grad.layout != torch.sparse_coo:
            return ()
        grad = grad._values()  # noqa: SLF001 - values() needs a coalesced copy
    size = grad.numel()
    stride = max(1, size // ELEMENTS)
    count = min(size, ELEMENTS)
    spread = grad.as_strided((count,), (stride,)) if grad.is_contiguous() else grad.reshape(-1)[::stride][:count]
    return tuple(spread.tolist())


def is_zero(what: Sample) -> bool:
    """Say whether a sample is None or contains only zeros."""
    return not isinstance(what, Unread) and not (what and any(what))


def share(now: Sample, then: Sample) -> float | None:
    """Return k = ⟨now, then⟩/‖then‖²; None if `then` is zero or `now` is not a multiple of it.

    >>> share((1.0, 2.0), (2.0, 4.0)), share(None, (2.0, 4.0)), share((1.0, -2.0), (2.0, 4.0))
    (0.5, 0.0, None)
    """
    if isinstance(then, Unread) or isinstance(now, Unread):
        return 0.0 if now is None else 1.0 if now is then else None
    if not then or not any(then):
        return None
    if now is None:
        return 0.0
    square = inner(then, then)
    if len(now) != len(then) or not 0 < square < math.inf:
        return None
    if now == then:  # the usual case, without arithmetic
        return 1.0
    along = inner(now, then) / square
    off = sum(abs(a - along * b) ** 2 for a, b in zip(now, then, strict=True))
    return along if off <= OFF * square else None


def inner(a: Sample, b: Sample) -> float:
    """Return the real part of the inner product, 0 if a sample is empty or unread."""
    if not a or not b or isinstance(a, Unread) or isinstance(b, Unread):
        return 0.0
    if isinstance(a[0], complex) or isinstance(b[0], complex):
        return float(sum((x * y.conjugate()).real for x, y in zip(a, b, strict=False)))
    return cast("float", sum(map(mul, a, b)))


class _Reading(NamedTuple):
    """A `.grad` when it was read."""

    grad: weakref.ref[Tensor] | None
    version: int
    what: Sample


NONE = _Reading(None, -1, None)


class Probes:
    """A few parameters of one optimizer whose gradients are read."""

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self.replaced = False  # a `.grad` was another tensor at the latest reading than before
        self.unchanged = 0  # usual measured updates in a row: empty `.grad`, then nothing but passes
        self._latest: list[_Reading] = []

    def parameters(self, groups: Groups) -> list[Tensor]:
        """Return the parameters; none if the groups have shrunk, so that new ones must be chosen."""
        try:
            return [groups[group]["params"][nth] for group, nth in self.keys]
        except IndexError:
            self.keys = []
            return []

    def first(self, groups: Groups) -> Tensor | None:
        """Return a parameter that has had a gradient, or None if unknown."""
        if not self.keys:
            return None
        group, nth = self.keys[0]
        try:
            first: Tensor = groups[group]["params"][nth]
        except IndexError:
            self.keys = []
            return None
        return first

    def read(self, groups: Groups) -> list[Sample]:
        """Return a sample per parameter; the first call chooses parameters with a gradient."""
        parameters = self.parameters(groups)
        if not parameters:
            params = [group["params"] for group in groups]
            having = [(n, m) for n, each in enumerate(params) for m, p in enumerate(each) if p.grad is not None]
            self.keys = having[:: max(1, math.ceil(len(having) / PROBES))]
            parameters = self.parameters(groups)
        latest = self._latest
        if len(latest) != len(parameters):
            latest[:] = (*latest, *[NONE] * len(parameters))[: len(parameters)]
        self.replaced = False
        for nth, p in enumerate(parameters):
            grad = p.grad
            if grad is None:
                latest[nth] = NONE
                continue
            known, known_version, _ = latest[nth]
            version = grad._version  # noqa: SLF001 - no public equivalent
            same = known is not None and known() is grad
            self.replaced |= not same and known is not None
            if not same or known_version != version:  # after a while of usual updates, elements are no longer read
                what = Unread() if self.unchanged >= UNCHANGED else sample(grad)
                latest[nth] = _Reading(weakref.ref(grad), version, what)
        return [what for _, _, what in latest]


def all_are_zero(tensors: Iterable[Tensor]) -> bool:
    """Say whether all of these contain only zeros; False if one cannot be read."""
    for each in tensors:
        content = _dense(each)
        if content is None or bool(content.any()):
            return False
    return True


def all_are_finite(grads: list[Tensor]) -> bool:
    """Say whether all of these are certainly finite, from their norms in one call; False for unusual tensors."""
    import torch

    try:
        with torch.no_grad():
            norms: Any = torch._foreach_norm(grads)  # noqa: SLF001 - clip_grad_norm_ uses it too
    except (RuntimeError, NotImplementedError, TypeError):  # no tensors, other layouts, subclasses
        return not grads
    return all(math.isfinite(norm.tolist()) for norm in norms)


def is_finite_number(loss: Any) -> bool:
    """Say whether a loss is one finite number on the CPU."""
    return _is_number(loss) and cmath.isfinite(loss.item())


def is_lost_number(loss: Any) -> bool:
    """Say whether a loss is nan or inf, one number on the CPU. It never raises: hooks call it directly."""
    try:
        return _is_number(loss) and not cmath.isfinite(loss.item())
    except RuntimeError:  # such as in torch.func.vmap, where tensors have no numbers
        return False


def _is_number(loss: Any) -> bool:
    """Say whether a loss is one number on the CPU, not of a subclass of Tensor."""
    return type(loss).__name__ == "Tensor" and loss.is_cpu and loss.dim() == 0


def is_finite(tensor: Tensor) -> bool:
    """Say whether a tensor is finite. The sum decides first; finite numbers can overflow it, so elements follow."""
    content = _dense(tensor)
    if content is None or not (content.is_floating_point() or content.is_complex()):
        return True
    return cmath.isfinite(content.sum().tolist()) or bool(content.isfinite().all())


def has_nan(tensor: Tensor) -> bool:
    """Say whether a tensor contains nan."""
    content = _dense(tensor)
    return content is not None and bool(content.isnan().any())


def fingerprint(tensor: Tensor) -> object:
    """Return numbers that change with the tensor's values; None if they are not finite or cannot be read."""
    content = _dense(tensor)
    total = math.nan if content is None else content.sum().tolist()
    return (total, sample(content)) if cmath.isfinite(total) else None


def written_fingerprint(tensor: Tensor) -> object:
    """Return a value that changes with any write to the tensor; never equal to another if not finite."""
    return tensor._version, fingerprint(tensor) or object()  # noqa: SLF001 - no public equivalent


def _dense(tensor: Tensor) -> Any:
    """Return the local content of a tensor as a dense one; None if it cannot be read."""
    import torch

    content: Any = tensor.detach()
    if hasattr(content, "to_local"):  # a DTensor: the rest is in other processes
        content = content.to_local()
    if content.is_meta or (content.is_cuda and torch.cuda.is_current_stream_capturing()):
        return None
    if content.layout == torch.strided:
        return content
    return content._values() if content.is_sparse else None  # noqa: SLF001 - works without coalescing
