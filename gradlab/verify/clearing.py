"""Where to clear `.grad`: before backward() or after step(), by the optimizer or by the model."""

from __future__ import annotations

from itertools import chain, islice, repeat
from typing import TYPE_CHECKING

from gradlab import modes, optimizers
from gradlab.verify.claim import Claim, FigureValue, Measurement
from gradlab.verify.training import (
    all_equal,
    build_task,
    copy_grads,
    copy_weights,
    max_difference,
    small_noisy_line,
    total_norm,
    train,
)

if TYPE_CHECKING:
    from torch import Tensor, nn


def _train_clearing(where: str, optimizer: str, steps: int = 200) -> tuple[list[float], list[Tensor]]:
    """Train with zero_grad() before backward(), after step(), or between the two; return losses and weights."""
    task = small_noisy_line()
    made = optimizers.build(optimizer, task.model.parameters(), {"lr": 0.01})
    losses = []
    for batch in islice(chain.from_iterable(repeat(task.batches)), steps):
        loss = task.loss(task.model, batch)
        if where == "before":
            made.zero_grad()
        loss.backward()
        if where == "between":
            made.zero_grad()
        made.step()
        losses.append(loss.item())
    return losses, copy_weights(task.model)


def _before_or_after() -> Measurement:
    alike, off = [], 0.0
    for optimizer in ("SGD", "Adam"):
        losses, weights = _train_clearing("before", optimizer)
        after = train(small_noisy_line(), modes.zero_grad(), optimizer, steps=200, lr=0.01)
        alike.append(losses == after.losses and all_equal(weights, after.weights))
        off = max(off, max_difference(weights, after.weights))
    start = copy_weights(small_noisy_line().model)
    moved = max_difference(_train_clearing("between", "SGD")[1], start)
    return Measurement(
        {
            "it is called before backward() or after step()": all(alike),
            "it is called between them (nothing is learned)": moved > 0,
        },
        {
            "before backward() or after step(), 200 steps: weight difference": off,
            "between them, 200 steps: weight movement": moved,
        },
    )


def _optimizer_or_model() -> Measurement:
    import torch

    def grads_after(steps: int, held: str, clear: str) -> list[Tensor]:
        """Return `.grad` after this many steps on one batch, cleared after each step."""
        task = build_task("heads_in_turn", 0, heads=2)
        batch = next(iter(task.batches))
        model: nn.Module = task.model
        parameters = model.parameters() if held == "all" else model.get_submodule("heads.0").parameters()
        optimizer = torch.optim.SGD(parameters, lr=0.0)
        for _ in range(steps):
            task.loss(model, batch).backward()
            optimizer.step()
            (optimizer if clear == "optimizer" else model).zero_grad()
        return copy_grads(model)

    whole = [grads_after(5, "all", clear) for clear in ("optimizer", "model")]
    once, often = (total_norm(grads_after(steps, "head", "optimizer")) for steps in (1, 5))
    part = [grads_after(5, "head", clear) for clear in ("optimizer", "model")]
    figures: dict[str, FigureValue] = {
        "optimizer with all parameters: norm of .grad after either call": max(map(total_norm, whole)),
        "optimizer with one head: norm of .grad after model.zero_grad()": total_norm(part[1]),
        "optimizer with one head: norm of .grad after optimizer.zero_grad(), step 5 / step 1": (
            often / once if once else 0.0
        ),
    }
    return Measurement(
        {
            "the optimizer has all parameters of the model": all_equal(*whole) and total_norm(whole[0]) == 0,
            "the optimizer has only some (the other gradients add up)": all_equal(*part),
        },
        figures,
        {"the other gradients add up": often > 4 * once > 0},
    )


CLAIMS = (
    Claim(
        "clear-before-backward-or-after-step",
        "It does not matter where zero_grad() is called.",
        "holds when it is called before backward() or after step(); "
        "not when it is called between them (nothing is learned)",
        _before_or_after,
    ),
    Claim(
        "optimizer-or-model-zero-grad",
        "optimizer.zero_grad() and model.zero_grad() do the same.",
        "holds when the optimizer has all parameters of the model; "
        "not when the optimizer has only some (the other gradients add up)",
        _optimizer_or_model,
    ),
)
