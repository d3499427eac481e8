"""Keeping torch.compile out of our own functions: it runs them as they are, within a compiled step too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    Function = TypeVar("Function", bound=Callable[..., Any])


def untraced(function: Function, *, calls_others: bool = False) -> Function:
    """Let torch.compile call this function when it comes upon it, and run it and all that it calls as it is.

    As torch.compiler.disable() would; but that imports the compiler, which takes a second that a script without it
    does not have.

    Args:
        function: one of ours.
        calls_others: what it calls may be compiled: the function that it is put around.
    """
    import torch

    vars(function)["_torchdynamo_disable"] = True
    frames: Any = torch._C._dynamo.eval_frame  # noqa: SLF001 - nothing public does it without the compiler
    if hasattr(frames, "set_code_exec_strategy"):  # torch before 2.7 compiles them, to no harm but time
        action, strategy = frames._FrameAction, frames._FrameExecStrategy  # noqa: SLF001 - as above
        frames.set_code_exec_strategy(
            function.__code__, strategy(action.SKIP, action.DEFAULT if calls_others else action.SKIP)
        )
    return function
