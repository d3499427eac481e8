"""A few numbers of tensors: what is left of a gradient, and what is finite."""

from __future__ import annotations

import cmath
import math
from operator import mul
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

ELEMENTS = 16  # of a gradient that are looked at, spread evenly over it
OFF = 1e-3  # how far, squared and relative, a content may be off a multiple of the gradient and still be its share


class Unread:
    """Stands for elements of a gradient that were not read: to read them costs, and it tells whether they are left.

    It is equal to itself alone.
    """


Sample = tuple[Any, ...] | Unread | None  # a few elements, real or complex, of a `.grad`; None where that is None


def sample(grad: Any) -> Sample:
    """Return a few elements of a gradient as numbers; nothing is kept of the tensor.

    Of a sparse one, elements of its values: the next content has the same indices if it is what was kept.
    """
    if grad is None:
        return None
    import torch

    if grad.requires_grad:
        grad = grad.detach()
    if type(grad) is not torch.Tensor and hasattr(
        grad, "to_local"
    ):  # a DTensor: asking for all of it would talk to other processes
        grad = grad.to_local()
    if grad.is_cuda and torch.cuda.is_current_stream_capturing():
        return ()
    if grad.layout != torch.strided:
        if grad.layout != torch.sparse_coo:
            return ()
        grad = grad._values()  # noqa: SLF001 - values() wants it coalesced, which costs a copy
    size = grad.numel()
    stride = max(1, size // ELEMENTS)
    count = min(size, ELEMENTS)
    spread = grad.as_strided((count,), (stride,)) if grad.is_contiguous() else grad.reshape(-1)[::stride][:count]
    return tuple(spread.tolist())


def is_zero(what: Sample) -> bool:
    """Say whether there is nothing: None, or none but zeros among what was read."""
    return not isinstance(what, Unread) and not (what and any(what))


def share(now: Sample, then: Sample) -> float | None:
    """Return k = ⟨now, then⟩/‖then‖²; None where `then` is nothing, or `now` is not a multiple of it.

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
    if now == then:  # not worth more time
        return 1.0
    along = inner(now, then) / square
    off = sum(abs(a - along * b) ** 2 for a, b in zip(now, then, strict=True))
    return along if off <= OFF * square else None


def inner(a: Sample, b: Sample) -> float:
    """Return the real part of the inner product, 0 where one is nothing."""
    if not a or not b or isinstance(a, Unread) or isinstance(b, Unread):
        return 0.0
    if isinstance(a[0], complex) or isinstance(b[0], complex):
        return float(sum((x * y.conjugate()).real for x, y in zip(a, b, strict=False)))
    return cast("float", sum(map(mul, a, b)))


def all_are_zero(parameters: Iterable[Tensor]) -> bool:
    """Say whether no `.grad` of these holds anything, as far as they can be looked at."""
    for p in parameters:
        if p.grad is None:
            continue
        content = _dense(p.grad)
        if content is None or bool(content.any()):
            return False
    return True


def _all_are_finite(grads: list[Tensor]) -> bool:
    """Say whether all of these are finite for sure: by their norms, in one call, where they are of the usual kind."""
    import torch

    try:
        with torch.no_grad():
            norms: Any = torch._foreach_norm(grads)  # noqa: SLF001 - as clip_grad_norm_ does
    except (RuntimeError, NotImplementedError, TypeError):  # none, of another layout, of a subclass
        return not grads
    return all(math.isfinite(norm.tolist()) for norm in norms)


def _is_finite_loss(given: Any) -> bool:
    """Say whether what is backwarded is one number, at hand, and finite."""
    usual = type(given).__name__ == "Tensor" and given.is_cpu and given.dim() == 0
    return usual and cmath.isfinite(given.item())


def _is_finite(tensor: Tensor) -> bool:
    """Say whether all of a tensor is finite. The sum of what is finite may not be, and is looked at closer."""
    content = _dense(tensor)
    if content is None or not (content.is_floating_point() or content.is_complex()):
        return True
    return cmath.isfinite(content.sum().tolist()) or bool(content.isfinite().all())


def _dense(tensor: Tensor) -> Any:
    """Return what a tensor holds here, as a dense one; None where it cannot be looked at."""
    import torch

    content: Any = tensor.detach()
    if hasattr(content, "to_local"):  # a DTensor: asking for all of it would talk to other processes
        content = content.to_local()
    if content.is_meta or (content.is_cuda and torch.cuda.is_current_stream_capturing()):
        return None
    if content.layout == torch.strided:
        return content
    return content._values() if content.is_sparse else None  # noqa: SLF001 - it need not be coalesced


def _values(tensor: Tensor) -> object:
    """Return numbers that differ when the tensor's values do; None where they are not finite or not to be seen."""
    content = _dense(tensor)
    total = math.nan if content is None else content.sum().tolist()
    return (total, sample(content)) if cmath.isfinite(total) else None


def _content(tensor: Tensor) -> object:
    """Return what differs once the tensor has been written to, by whatever way; never equal where it is not finite."""
    return tensor._version, _values(tensor) or object()  # noqa: SLF001 - nothing public tells
