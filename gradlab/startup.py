"""Fast start: import torch without garbage collection, and use optimizers without importing torch.compile.

`import torch` creates about 170,000 permanent objects. The garbage collector would scan them several times during the
import, during training and at exit. Importing the compiler costs a second of CPU time. Torch wraps five methods of
every optimizer for it, and these wrappers import `torch._dynamo` at their first call. gradlab does not compile
optimizers, so it removes the wrappers.
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

OURS = False  # True in gradlab's own commands and workers, False if gradlab is used as a library


def import_torch() -> None:
    """Import torch. In gradlab's own processes, exclude all existing objects from later garbage collections."""
    if "torch" in sys.modules:
        return
    collecting = gc.isenabled()
    gc.disable()
    try:
        import torch  # noqa: F401 - only the import matters

        if OURS:
            gc.freeze()
    finally:
        if collecting:
            gc.enable()


_KEPT_FROM_COMPILER = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")


def without_compiler(kind: type[Any]) -> type[Any]:
    """Return a subclass of a torch.optim class that computes the same and does not import the compiler.

    It has the name of `kind`. Copies and pickles of its instances are instances of `kind`. Methods without torch's
    wrapper, such as patched ones, are inherited. If no method can be replaced, or torch is compiling, return `kind`.
    """
    import torch

    if torch.compiler.is_compiling():
        return kind
    found = {name: _wrapped_by("torch._compile", "inner", getattr(kind, name, None)) for name in _KEPT_FROM_COMPILER}
    methods = tuple((name, method) for name, method in found.items() if method is not None)
    return _subclass(cast("Hashable", kind), methods, getattr(kind, "step", None))


@lru_cache(maxsize=100)
def _subclass(kind: type[Any], methods: tuple[tuple[str, Method], ...], inherited: Method | None) -> type[Any]:
    """Return the subclass with these methods and a `step` that computes the same as the inherited one.

    `inherited` is part of the cache's key because torch later wraps the class's `step` in its hooks.
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
    """Return the function inside torch's graph-break wrapper of `step`, with or without torch's hooks around it."""
    home = "torch.optim.optimizer"
    return _wrapped_by(home, "_use_grad", _wrapped_by(home, "wrapper", step) or step)


def _wrapped_by(module: str, name: str, function: Any) -> Method | None:
    """Return the wrapped function if `function` is the wrapper `name` of this module, else None."""
    code = getattr(function, "__code__", None)
    if code is None or (function.__globals__.get("__name__"), code.co_name) != (module, name):
        return None
    wrapped: Method | None = getattr(function, "__wrapped__", None)
    return wrapped
