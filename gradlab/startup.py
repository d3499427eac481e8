"""Quick starts: importing torch without garbage collections, and optimizers without torch.compile's compiler.

Torch brings some 170,000 objects, which stay. Collections would go through them several times during the import, now
and then in a training, and once more at the end of the process. The compiler costs a second of CPU time: torch keeps
it out of four methods of an optimizer and breaks graphs around `step`, and both import `torch._dynamo` at the first
call. An optimizer that nothing compiles needs neither.
"""

from __future__ import annotations

import gc
import sys
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from torch.optim import Optimizer

    Method = Callable[..., Any]

OURS = False  # whether the process is gradlab's own, as its commands and workers are, and not a caller's


def import_torch() -> None:
    """Import torch once, and in a process of our own exclude what exists by then from later garbage collections."""
    if "torch" in sys.modules:
        return
    collecting = gc.isenabled()
    gc.disable()
    try:
        import torch  # noqa: F401 - this is what takes long

        if OURS:
            gc.freeze()
    finally:
        if collecting:
            gc.enable()


_KEPT_FROM_COMPILER = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")


def without_compiler(kind: type[Any]) -> type[Any]:
    """Return a subclass of this class of torch.optim that computes the same and does not import the compiler.

    It bears the name of `kind`; copied or pickled, its instances become instances of `kind`. A method that is not as
    torch wraps it, such as one that somebody has patched, is inherited. Where no method can be replaced, or while
    torch compiles, that leaves `kind` itself.
    """
    import torch

    if torch.compiler.is_compiling():
        return kind
    found = {name: _wrapped_by("torch._compile", "inner", getattr(kind, name, None)) for name in _KEPT_FROM_COMPILER}
    methods = tuple((name, method) for name, method in found.items() if method is not None)
    return _subclass(cast("Hashable", kind), methods, getattr(kind, "step", None))


@lru_cache(maxsize=100)
def _subclass(kind: type[Any], methods: tuple[tuple[str, Method], ...], inherited: Method | None) -> type[Any]:
    """Return the subclass with these methods, and with a step that computes as the inherited one does.

    That step is an argument because torch puts its hooks around what the class inherits, for all later instances.
    """
    computation = _computation(inherited)
    if not methods and computation is None:
        return kind

    def reduced(optimizer: Optimizer, _protocol: object) -> tuple[Any, ...]:
        return object.__new__, (kind,), optimizer.__getstate__()

    names = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    step = {"step": _step(computation)} if computation else {}
    return type(kind.__name__, (kind,), {**names, **dict(methods), **step, "__reduce_ex__": reduced})


def _step(computation: Method) -> Method:
    @wraps(computation)
    def step(optimizer: Optimizer, *args: Any, **options: Any) -> Any:
        import torch

        with torch.set_grad_enabled(optimizer.defaults["differentiable"]):
            return computation(optimizer, *args, **options)

    return step


def _computation(step: Any) -> Method | None:
    """Return the computation of a step that breaks graphs around it, with torch's hooks around that or not yet."""
    home = "torch.optim.optimizer"
    return _wrapped_by(home, "_use_grad", _wrapped_by(home, "wrapper", step) or step)


def _wrapped_by(module: str, name: str, function: Any) -> Method | None:
    """Return what the function wraps if it is the function `name` of this module, as its code says."""
    code = getattr(function, "__code__", None)
    if code is None or (function.__globals__.get("__name__"), code.co_name) != (module, name):
        return None
    wrapped: Method | None = getattr(function, "__wrapped__", None)
    return wrapped
