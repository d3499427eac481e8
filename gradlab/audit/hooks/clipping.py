"""Hook for clip_grad_norm_, clip_grads_with_norm_ and clip_grad_value_ of torch.nn.utils, under any name."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gradlab.audit.recording.clipping import Clip

if TYPE_CHECKING:
    from gradlab.audit.hooks.patching import Arguments, Patches
    from gradlab.audit.recording.recorder import Recorder

BY_NORM = ("_clip_grads_with_norm_", "clip_grad_norm_")  # since torch 2.6 the latter calls the former


def install(patches: Patches, recorders: list[Recorder]) -> None:
    """Record the parameters whose gradients are clipped, and the bound."""
    from torch import Tensor
    from torch.nn import utils
    from torch.nn.utils import clip_grad

    def before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        given = args[0] if args else kwargs.get("parameters")
        most = args[1] if len(args) > 1 else kwargs.get("max_norm", kwargs.get("clip_value"))
        norm = kwargs.get("total_norm", args[2] if len(args) > 2 and isinstance(args[2], Tensor) else None)
        if given is None or most == math.inf:  # the latter only computes the norm
            return None
        parameters = [given] if isinstance(given, Tensor) else list(given)
        for recorder in recorders:
            recorder.clipped(Clip(parameters, most, norm))
        if isinstance(given, Tensor | list | tuple) or not parameters:
            return None
        # a generator is used up now, so pass the list on
        return ((parameters, *args[1:]), kwargs) if args else (args, {**kwargs, "parameters": parameters})

    by_norm = next(name for name in BY_NORM if name in vars(clip_grad))
    for name in (by_norm, "clip_grad_value_"):
        if not patches.within(vars(clip_grad)[name], before):
            for module in (utils, clip_grad):
                patches.around(module, name, before)
