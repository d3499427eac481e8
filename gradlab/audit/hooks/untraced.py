"""Exclusion of our functions from torch.compile, even inside a compiled step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    Function = TypeVar("Function", bound=Callable[..., Any])


def untraced(function: Function, *, calls_others: bool = False) -> Function:
    """Exclude a function and everything it calls from compilation.

    This does the same as torch.compiler.disable(), without importing the compiler, which would take a second.

    Args:
        function: one of ours.
        calls_others: allow compilation of the functions that it calls, such as the one it wraps.
    """
    import torch

    vars(function)["_torchdynamo_disable"] = True
    frames: Any = torch._C._dynamo.eval_frame  # noqa: SLF001 - the public way imports the compiler
    if hasattr(frames, "set_code_exec_strategy"):  # torch before 2.7 compiles them, which only costs time
        action, strategy = frames._FrameAction, frames._FrameExecStrategy  # noqa: SLF001 - as above
        frames.set_code_exec_strategy(
            function.__code__, strategy(action.SKIP, action.DEFAULT if calls_others else action.SKIP)
        )
    return function
