"""Scripts that no mode can be imposed on, recognized as early as possible."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

from gradlab.comparison.owners import parameters_of

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

WITHIN_BACKWARD = "its optimizer steps within the backward pass"
SEVERAL_CALLS = "its optimizer evaluates the closure several times per step"
WITHIN_STEP = "its optimizer evaluates a closure within its step, after another backward pass"
IN_THREADS = "it runs backward passes in several threads at the same time"
COMPILED = "it compiles the whole step with torch.compile; compile only the model"
SEVERAL_PROCESSES = "it trains in several processes"


def why_not(optimizer: Optimizer | None = None) -> str:
    """Return why no mode can be imposed on this process, or on this optimizer; "" if nothing is against it."""
    from torch.optim import LBFGS

    if isinstance(optimizer, LBFGS):
        return "LBFGS evaluates its closure several times per step"
    if optimizer is not None and any(_is_sharded(each) for each in parameters_of(optimizer)):
        return "it uses FSDP"
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        if distributed.get_world_size() > 1:
            return SEVERAL_PROCESSES
        if "torch.distributed.fsdp" in sys.modules and _has_instance("FullyShardedDataParallel", "FSDPModule"):
            return "it uses FSDP"
    if "deepspeed" in sys.modules and _has_instance("DeepSpeedEngine"):
        return "it uses DeepSpeed"
    return COMPILED if _is_compiled_step() else ""


def trainer() -> str:
    """Return the name of the trainer that calls us and counts steps; "" if none does."""
    frame: Any = sys._getframe(1)  # noqa: SLF001 - inspect.currentframe() does the same, but slower
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        for module, trainer in (
            ("lightning.pytorch.", "Lightning"),
            ("pytorch_lightning.", "Lightning"),
            ("transformers.trainer", "Transformers"),
        ):
            if name.startswith(module):
                return trainer
        frame = frame.f_back
    return ""


def _is_sharded(parameter: Tensor) -> bool:
    return type(parameter).__name__ in ("DTensor", "FlatParameter")


def _has_instance(*names: str) -> bool:
    return any(base.__name__ in names for each in gc.get_objects() for base in type(each).__mro__)


def _is_compiled_step() -> bool:
    """Say whether a function that torch.compile made is under way.

    Its wrapper is `_fn` or `compile_wrapper`, by version of torch. That of `torch.compiler.disable` may have the same
    name, in another class.
    """
    frame: Any = sys._getframe(1)  # noqa: SLF001 - as above
    while frame is not None:
        code = frame.f_code
        if (
            code.co_name in ("_fn", "compile_wrapper")
            and code.co_filename.endswith(("torch/_dynamo/eval_frame.py", "torch\\_dynamo\\eval_frame.py"))
            and not code.co_qualname.startswith("DisableContext.")
        ):
            return True
        frame = frame.f_back
    return False
