"""What tensors hold, as far as it can be read cheaply: whether it is finite, zero, or has changed."""

from __future__ import annotations

import cmath
import math
from typing import TYPE_CHECKING, Any

from gradlab.audit.recording.samples import sample

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor


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
    return tensor._version, fingerprint(tensor) or object()  # noqa: SLF001 - nothing public tells


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
