"""What the loss of a backward pass is divided by, read off its graph before that is used up.

Only where an update takes several backward passes, or on the way to an update that is measured.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from gradlab.audit import loss
from gradlab.audit.patching import UNCOUNTED
from gradlab.audit.places import is_users

if TYPE_CHECKING:
    from types import FrameType

    from gradlab.audit.patching import Patches
    from gradlab.audit.recording import Recorder

OF_TORCH = ("torch/_tensor.py", "torch/autograd/__init__.py", "torch\\_tensor.py", "torch\\autograd\\__init__.py")


def install(patches: Patches, recorders: list[Recorder]) -> None:
    """Tell how the loss of a backward pass is scaled. To be installed after the backward passes themselves."""
    from torch import autograd
    from torch.amp.grad_scaler import GradScaler

    scaled: list[None] = []  # something, where a GradScaler has scaled the next loss
    under_way: list[list[tuple[Recorder, loss.Loss]]] = []

    def scales(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        scaled[:] = [None] if args[0].is_enabled() else []

    def before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        read = None
        found: list[tuple[Recorder, loss.Loss]] = []
        for recorder in recorders:
            if recorder.wants_loss():
                read = read or _read(args, kwargs, scaled=bool(scaled))
                found.append((recorder, read))
        under_way.append(found)
        scaled.clear()

    def after(_args: tuple[Any, ...], _error: BaseException | None) -> None:
        for recorder, read in under_way.pop():
            recorder.loss_was(read)

    patches.around(GradScaler, "scale", scales)
    patches.around(autograd, "backward", before, after)


def _read(args: tuple[Any, ...], kwargs: dict[str, Any], *, scaled: bool) -> loss.Loss:
    try:
        root: Any = args[0] if args else kwargs.get("tensors")
        given = args[1] if len(args) > 1 else kwargs.get("grad_tensors")
        if isinstance(root, list | tuple) and len(root) == 1:
            root = root[0]
        again = any(args[2:4]) or kwargs.get("retain_graph") or kwargs.get("create_graph")  # losses of one graph
        if given is not None or again or not hasattr(root, "grad_fn"):
            return loss.UNKNOWN
        return loss.read(root, scaled=scaled, own=_asked_by_user())
    except Exception:  # whatever it is: of this loss nothing is known
        return loss.UNKNOWN


def _asked_by_user() -> bool:
    """Say whether the backward pass is taken by a line of the user's code, rather than by a framework's."""
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 - inspect.currentframe() is the same, and slower
    while frame is not None and (
        frame.f_code.co_filename in {UNCOUNTED, __file__} or frame.f_code.co_filename.endswith(OF_TORCH)
    ):
        frame = frame.f_back
    return frame is not None and is_users(frame.f_code.co_filename)
