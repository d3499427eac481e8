"""Samples: a few elements of gradients, which share of one is left in another, and whether tensors are finite."""

from __future__ import annotations

import cmath
import math
import weakref
from operator import mul
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    Groups = list[dict[str, Any]]  # an optimizer's param_groups
    Key = tuple[int, int]  # a parameter: which group, and which of its parameters

PROBES = 3  # parameters of an optimizer whose gradients are read
UNCHANGED = 4  # updates in a row without surprise before elements of gradients are not read any more
ELEMENTS = 16  # of a gradient that are looked at, spread evenly over it
OFF = 1e-3  # how far, squared and relative, a content may be off a multiple of the gradient and still be its share


class Unread:
    """Stands for elements of a gradient that were not read: reading costs, and identity shows whether they are left.

    It is equal only to itself.
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
    if type(grad) is not torch.Tensor and hasattr(grad, "to_local"):  # a DTensor: all of it is on other processes too
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


class Probes:
    """The gradients of a few parameters of one optimizer."""

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self.unchanged = 0  # updates measured in a row before which all was None, one pass came, and nothing after it
        self._latest: list[tuple[weakref.ref[Tensor] | None, int, Sample]] = []  # gradient, its version, its sample

    def parameters(self, groups: Groups) -> list[Tensor]:
        """Return the parameters; none where the groups have shrunk, and others are to be chosen."""
        try:
            return [groups[group]["params"][nth] for group, nth in self.keys]
        except IndexError:
            self.keys = []
            return []

    def first(self, groups: Groups) -> Tensor | None:
        """Return a parameter that has had gradient, and so shows whether there is any; None where none is known."""
        parameters = self.parameters(groups)
        return parameters[0] if parameters else None

    def read(self, groups: Groups) -> list[Sample]:
        """Return a sample of each; at first, choose parameters that have gradient."""
        parameters = self.parameters(groups)
        if not parameters:
            params = [group["params"] for group in groups]
            having = [(n, m) for n, each in enumerate(params) for m, p in enumerate(each) if p.grad is not None]
            self.keys = having[:: max(1, math.ceil(len(having) / PROBES))]
            parameters = self.parameters(groups)
        before, self._latest = self._latest, []
        for nth, p in enumerate(parameters):
            grad = p.grad
            version = -1 if grad is None else grad._version  # noqa: SLF001 - not public otherwise
            known, known_version, what = before[nth] if nth < len(before) else (None, -2, None)
            if known_version != version or (grad is not None and (known is None or known() is not grad)):
                known, what = (None, None) if grad is None else (weakref.ref(grad), self._sample(grad))
            self._latest.append((known, version, what))
        return [what for _, _, what in self._latest]

    def _sample(self, grad: Tensor) -> Sample:
        """Return a few elements of a gradient; where these have long been of no use, only whether it is the same."""
        return Unread() if self.unchanged >= UNCHANGED else sample(grad)


def all_are_zero(tensors: Iterable[Tensor]) -> bool:
    """Say whether none of these holds anything but zeros, as far as they can be read."""
    for each in tensors:
        content = _dense(each)
        if content is None or bool(content.any()):
            return False
    return True


def all_are_finite(grads: list[Tensor]) -> bool:
    """Say whether all of these are finite for sure: by their norms, in one call, where they are of the usual kind."""
    import torch

    try:
        with torch.no_grad():
            norms: Any = torch._foreach_norm(grads)  # noqa: SLF001 - as clip_grad_norm_ does
    except (RuntimeError, NotImplementedError, TypeError):  # none, of another layout, of a subclass
        return not grads
    return all(math.isfinite(norm.tolist()) for norm in norms)


def is_finite_number(loss: Any) -> bool:
    """Say whether a loss is one number on the CPU, and finite."""
    usual = type(loss).__name__ == "Tensor" and loss.is_cpu and loss.dim() == 0
    return usual and cmath.isfinite(loss.item())


def is_finite(tensor: Tensor) -> bool:
    """Say whether all of a tensor is finite. The sum of finite numbers may not be, and then each is looked at."""
    content = _dense(tensor)
    if content is None or not (content.is_floating_point() or content.is_complex()):
        return True
    return cmath.isfinite(content.sum().tolist()) or bool(content.isfinite().all())


def fingerprint(tensor: Tensor) -> object:
    """Return numbers that differ when the tensor's values do; None where they are not finite or cannot be read."""
    content = _dense(tensor)
    total = math.nan if content is None else content.sum().tolist()
    return (total, sample(content)) if cmath.isfinite(total) else None


def written_fingerprint(tensor: Tensor) -> object:
    """Return what differs once the tensor has been written to in any way; never equal where it is not finite."""
    return tensor._version, fingerprint(tensor) or object()  # noqa: SLF001 - not public otherwise


def _dense(tensor: Tensor) -> Any:
    """Return what a tensor holds here, as a dense one; None where it cannot be read."""
    import torch

    content: Any = tensor.detach()
    if hasattr(content, "to_local"):  # a DTensor: asking for all of it would talk to other processes
        content = content.to_local()
    if content.is_meta or (content.is_cuda and torch.cuda.is_current_stream_capturing()):
        return None
    if content.layout == torch.strided:
        return content
    return content._values() if content.is_sparse else None  # noqa: SLF001 - it need not be coalesced
