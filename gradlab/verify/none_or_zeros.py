"""None or zeros: memory and time saved by setting `.grad` to None, and whether training is the same."""

from __future__ import annotations

import time
import weakref
from functools import partial
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from gradlab import modes
from gradlab.verify.claim import Claim, Measurement
from gradlab.verify.training import build_task, copy_weights, total_norm, train, train_rows, trained_alike

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import nn

# Memory and time


def _mlp(width: int, depth: int) -> nn.Sequential:
    from torch import nn

    return nn.Sequential(*(nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(depth)))


def _training_step(width: int, depth: int, batch: int, *, fill: bool) -> tuple[nn.Module, Callable[[], None]]:
    """Return a model and a function that trains it for one step and clears `.grad`."""
    import torch

    model = _mlp(width, depth)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x = torch.randn(batch, width)

    def step() -> None:
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=not fill)

    return model, step


def peak_memory(action: Callable[[], object]) -> int:
    """Return the peak memory in bytes of tensors created within `action`.

    Every operation is intercepted, also in the backward pass. A storage counts from its creation until it is freed.
    Temporary memory within one operation is not counted.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    now = peak = 0
    known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def freed(size: int) -> None:
        nonlocal now
        now -= size

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal now, peak
            before = {each.untyped_storage() for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)}
            made = func(*args, **(kwargs or {}))
            for each in tree_leaves(made):
                if isinstance(each, torch.Tensor):
                    storage = each.untyped_storage()
                    if storage not in known and storage not in before:
                        known.add(storage)
                        now += storage.nbytes()
                        weakref.finalize(storage, freed, storage.nbytes())
            peak = max(peak, now)
            return made

    with Watch():  # type: ignore[no-untyped-call]  # torch's
        action()
    return peak


def _memory(batch: int, *, fill: bool) -> tuple[int, int]:
    """Return the bytes in `.grad` between two steps, and the peak bytes of a step without the parameters."""
    model, step = _training_step(256, 4, batch, fill=fill)
    step()
    held = sum(each.grad.nbytes for each in model.parameters() if each.grad is not None)
    return held, held + peak_memory(step)


def _saves_memory() -> Measurement:
    (zeros, small_zeros), (none, small_none) = _memory(256, fill=True), _memory(256, fill=False)
    large_zeros, large_none = _memory(8192, fill=True)[1], _memory(8192, fill=False)[1]
    small, large = 1 - small_none / small_zeros, 1 - large_none / large_zeros
    return Measurement(
        {
            "memory in .grad between steps is counted": none == 0 < zeros,
            "peak memory is counted and activations are as large as the gradients (over a fifth saved)": small > 0.2,
            "peak memory is counted and activations are 30 times as large (under a twentieth saved)": large > 0.05,
        },
        {
            "zeros: bytes in .grad between steps": zeros,
            "None: bytes in .grad between steps": none,
            "batch size 256: share of the peak saved": small,
            "batch size 8192: share of the peak saved": large,
            "batch size 8192: bytes saved at the peak": large_zeros - large_none,
        },
    )


def _ratio_quartiles(pairs: int, seconds: Callable[[bool], float]) -> tuple[float, float, float]:
    """Return the quartiles of seconds with fill / seconds without, over pairs in alternating order."""
    ratios = []
    for nth in range(pairs):
        measured = {fill: seconds(fill) for fill in ((True, False) if nth % 2 else (False, True))}
        ratios.append(measured[True] / measured[False])
    low, middle, high = quantiles(ratios, n=4)
    return low, middle, high


def _cpu_seconds(action: Callable[[], object]) -> float:
    """Return the CPU seconds of this thread in `action`; wall time if that clock is too coarse."""
    clock = time.thread_time if time.get_clock_info("thread_time").resolution < 1e-6 else time.perf_counter
    start = clock()
    action()
    return clock() - start


def _saves_time() -> Measurement:
    import torch

    wide = {fill: _mlp(1024, 4) for fill in (True, False)}
    optimizers = {fill: torch.optim.SGD(model.parameters()) for fill, model in wide.items()}

    def time_clearing(fill: bool, *, returned: bool) -> float:
        """Time the call; unless the memory is `returned` to the system, keep it, as a caching allocator does."""
        grads = [torch.ones_like(each) for each in wide[fill].parameters()]
        for each, grad in zip(wide[fill].parameters(), grads, strict=True):
            each.grad = grad
        if returned:
            del each, grad
            grads.clear()
        return _cpu_seconds(lambda: optimizers[fill].zero_grad(set_to_none=not fill))

    steps = {fill: _training_step(128, 4, 1024, fill=fill)[1] for fill in (True, False)}
    for fill in (True, False):  # warm up
        steps[fill]()
        time_clearing(fill, returned=False)
    call, returning = (_ratio_quartiles(24, partial(time_clearing, returned=each)) for each in (False, True))
    whole = _ratio_quartiles(40, lambda fill: _cpu_seconds(steps[fill]))
    return Measurement(
        {
            "only the clearing call is timed": call[1] > 2,
            "a whole step at batch size 1024 is timed (under a tenth saved)": whole[1] > 1.1,
        },
        {
            "clearing 16 MB: time with zeros / None": call[1],
            "clearing 16 MB, memory returned to the system: time with zeros / None": returning[1],
            "whole step: time with zeros / None": whole[1],
            "whole step: quartiles of that ratio": f"{whole[0]:.3g} to {whole[2]:.3g}",
        },
    )


# Training results


def _idle_movement(*, fill: bool, **options: Any) -> float:
    """Return how far heads move in steps that do not use them, summed over all steps."""
    task = build_task("heads_in_turn", 0, heads=2)
    heads = [task.model.get_submodule(f"heads.{nth}") for nth in range(2)]
    moved, before = 0.0, [copy_weights(head) for head in heads]
    for row in train_rows(task, modes.zero_grad(fill=fill), steps=40, lr=0.05, **options):
        after = [copy_weights(head) for head in heads]
        idle = (row.step + 1) % 2  # at even steps the first head learns
        moved += total_norm(b - a for a, b in zip(before[idle], after[idle], strict=True))
        before = after
    return moved


def _trains_the_same() -> Measurement:
    settings: dict[str, dict[str, Any]] = {"SGD": {"momentum": 0.9, "weight_decay": 0.01}, "Adam": {}}
    identical = []
    for name, options in settings.items():
        zeros, none = (
            train(build_task("noisy_line", 0, inputs=4), mode, name, steps=200, lr=0.01, **options)
            for mode in (modes.zero_grad(fill=True), modes.zero_grad())
        )
        identical.append(trained_alike(zeros, none))
    idle: dict[str, dict[str, float]] = {"momentum": {"momentum": 0.9}, "decay": {"weight_decay": 0.1}, "plain": {}}
    moved = {name: _idle_movement(fill=True, **options) for name, options in idle.items()}
    moved_with_none = max(_idle_movement(fill=False, **options) for options in idle.values())
    return Measurement(
        {
            "every parameter gets a gradient at every step": all(identical),
            "an unused parameter has momentum": moved["momentum"] == 0,
            "an unused parameter has weight decay (zeros move it, None does not)": moved["decay"] == 0,
        },
        {
            "unused parameter, zeros and momentum: movement": moved["momentum"],
            "unused parameter, zeros and weight decay: movement": moved["decay"],
            "unused parameter, zeros and plain SGD: movement": moved["plain"],
            "unused parameter, None: movement": moved_with_none,
        },
        {"an unused parameter with None does not move": moved_with_none == 0},
    )


CLAIMS = (
    Claim(
        "set-to-none-saves-memory",
        "zero_grad(set_to_none=True) saves memory.",
        "holds when memory in .grad between steps is counted, "
        "or peak memory is counted and activations are as large as the gradients (over a fifth saved); "
        "not when peak memory is counted and activations are 30 times as large (under a twentieth saved)",
        _saves_memory,
    ),
    Claim(
        "set-to-none-saves-time",
        "zero_grad(set_to_none=True) saves time.",
        "holds when only the clearing call is timed; "
        "not when a whole step at batch size 1024 is timed (under a tenth saved)",
        _saves_time,
    ),
    Claim(
        "set-to-none-trains-the-same",
        "Setting .grad to None trains the same as setting it to zeros.",
        "holds when every parameter gets a gradient at every step; not when an unused parameter has momentum, "
        "or an unused parameter has weight decay (zeros move it, None does not)",
        _trains_the_same,
    ),
)
