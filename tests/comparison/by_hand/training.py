"""Small training runs written by hand under every gradient mode.

`script(way, variant)` is a plain user script that clears its gradients in one of seven ways.
`by_hand(way, variant, mode)` is the same training with the mode written into the loop.

Modes. g is the gradient that the last optimizer step used, after unscaling and clipping:

- zero: the script as it is; nothing of g remains.
- never: the clearing is removed; g remains in .grad and the next backward pass adds to it.
- half: g / 2 remains in .grad in place of the clearing.

With a GradScaler, .grad holds keep * g * scale before the next backward pass, where scale is the
scale of that pass. A skipped step changes neither g nor what remains of it.
"""

import textwrap
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

MODES = {"zero": 0.0, "never": 1.0, "half": 0.5}


class Way(NamedTuple):
    """A way of clearing: its place in the loop and its code."""

    place: str  # "top" (before the forward pass), "before" (before backward) or "after" (after the step)
    code: str
    in_place: bool  # whether .grad keeps its tensor


WAYS = {
    "zero_grad_before_backward": Way("before", "optimizer.zero_grad()", False),
    "zero_grad_after_step": Way("after", "optimizer.zero_grad()", False),
    "set_to_none_false": Way("before", "optimizer.zero_grad(set_to_none=False)", True),
    "model_zero_grad": Way("before", "model.zero_grad()", False),
    "grad_none_loop": Way("after", "for p in model.parameters():\n    p.grad = None", False),
    "grad_zero_loop": Way("after", "for p in model.parameters():\n    p.grad.zero_()", True),
    "top_of_loop": Way("top", "optimizer.zero_grad()", False),
}


class Variant(NamedTuple):
    """What the training uses besides its model and its data."""

    optimizer: str
    max_norm: float | None = None
    scheduler: str | None = None  # stepped once per epoch
    autocast: str | None = None
    scaler: str | None = None


_SCALER = 'torch.amp.GradScaler(device="cpu", init_scale=2.0**20, growth_interval=6)'
_SCALER_OFF = 'torch.amp.GradScaler(device="cpu", enabled=False)'

VARIANTS = {
    "sgd": Variant("torch.optim.SGD(model.parameters(), lr=0.02)"),
    "adam": Variant("torch.optim.Adam(model.parameters(), lr=0.01)"),
    "adamw_clip": Variant("torch.optim.AdamW(model.parameters(), lr=0.01)", max_norm=0.25),
    "sgd_steplr": Variant(
        "torch.optim.SGD(model.parameters(), lr=0.05)",
        scheduler="torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.3)",
    ),
    "bf16": Variant("torch.optim.SGD(model.parameters(), lr=0.02)", autocast="torch.bfloat16"),
    # float16 overflows at the first scales and after each growth, so that some steps are skipped
    "scaler": Variant("torch.optim.SGD(model.parameters(), lr=0.02)", autocast="torch.float16", scaler=_SCALER),
    "scaler_clip": Variant(
        "torch.optim.AdamW(model.parameters(), lr=0.01)", max_norm=0.25, autocast="torch.float16", scaler=_SCALER
    ),
    "scaler_off": Variant(
        "torch.optim.SGD(model.parameters(), lr=0.02)", autocast="torch.bfloat16", scaler=_SCALER_OFF
    ),
}


def script(way: str, variant: str) -> str:
    """Source of the user script; it writes the loss of every batch to losses.json."""
    clearing, v = WAYS[way], VARIANTS[variant]
    body: list[str] = ["x, y = inputs[batch], targets[batch]"]
    if clearing.place == "top":
        body.append(clearing.code)
    if v.autocast:
        body.append(f'with torch.autocast("cpu", dtype={v.autocast}):')
        body.append("    loss = F.mse_loss(model(x).float(), y)")
    else:
        body.append("loss = F.mse_loss(model(x), y)")
    if clearing.place == "before":
        body.append(clearing.code)
    body.append("scaler.scale(loss).backward()" if v.scaler else "loss.backward()")
    if v.max_norm:
        if v.scaler:
            body.append("scaler.unscale_(optimizer)")
        body.append(f"torch.nn.utils.clip_grad_norm_(model.parameters(), {v.max_norm})")
    body.extend(["scaler.step(optimizer)", "scaler.update()"] if v.scaler else ["optimizer.step()"])
    if clearing.place == "after":
        body.append(clearing.code)
    body.append("losses.append(loss.item())")

    setup = [f"optimizer = {v.optimizer}"]
    if v.scheduler:
        setup.append(f"scheduler = {v.scheduler}")
    if v.scaler:
        setup.append(f"scaler = {v.scaler}")
    return "\n".join(
        [
            _HEAD,
            *setup,
            "",
            "losses = []",
            "for epoch in range(5):",
            "    for batch in torch.randperm(len(inputs)).split(16):",
            textwrap.indent("\n".join(body), " " * 8),
            *(["    scheduler.step()"] if v.scheduler else []),
            "",
            'with open("losses.json", "w") as file:',
            "    json.dump(losses, file)",
            "",
        ]
    )


_HEAD = """\
import json

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
inputs = torch.randn(128, 6)
targets = torch.sin(2 * inputs[:, :1]) + inputs[:, 1:2] * inputs[:, 2:3]
model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))"""


def by_hand(way: str, variant: str, mode: str) -> list[float]:
    """Loss of every batch under a mode; leaves the global random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inputs = torch.randn(128, 6)
        targets = torch.sin(2 * inputs[:, :1]) + inputs[:, 1:2] * inputs[:, 2:3]
        model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))
        train = _train_scaled if VARIANTS[variant].scaler else _train
        return train(model, inputs, targets, way, variant, mode)


def _train(model: nn.Module, inputs: Tensor, targets: Tensor, way: str, variant: str, mode: str) -> list[float]:
    optimizer = _optimizer(model, variant)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.3)
    place = WAYS[way].place
    losses = []
    for _epoch in range(5):
        for batch in torch.randperm(128).split(16):  # type: ignore[no-untyped-call]
            if place == "top":
                _clear(model, optimizer, way, mode)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=variant == "bf16"):
                loss = mse_loss(model(inputs[batch]).float(), targets[batch])
            if place == "before":
                _clear(model, optimizer, way, mode)
            loss.backward()  # type: ignore[no-untyped-call]
            if variant == "adamw_clip":
                nn.utils.clip_grad_norm_(model.parameters(), 0.25)
            optimizer.step()
            if place == "after":
                _clear(model, optimizer, way, mode)
            losses.append(loss.item())
        if variant == "sgd_steplr":
            scheduler.step()
    return losses


def _clear(model: nn.Module, optimizer: torch.optim.Optimizer, way: str, mode: str) -> None:
    """Do what the script does in place of its clearing."""
    if mode == "never":
        return
    if mode == "zero":
        _script_clear(model, optimizer, way)
        return
    for p in model.parameters():
        if p.grad is None:  # before the first backward pass
            continue
        if WAYS[way].in_place:
            p.grad.mul_(0.5)
        else:
            p.grad = p.grad / 2


def _script_clear(model: nn.Module, optimizer: torch.optim.Optimizer, way: str) -> None:
    if way == "set_to_none_false":
        optimizer.zero_grad(set_to_none=False)
    elif way == "model_zero_grad":
        model.zero_grad()
    elif way == "grad_none_loop":
        for p in model.parameters():
            p.grad = None
    elif way == "grad_zero_loop":
        for p in model.parameters():
            if p.grad is not None:
                p.grad.zero_()
    else:
        optimizer.zero_grad()


def _train_scaled(  # noqa: C901  one loop, as users write it
    model: nn.Module, inputs: Tensor, targets: Tensor, way: str, variant: str, mode: str
) -> list[float]:
    optimizer = _optimizer(model, variant)
    if variant == "scaler_off":
        scaler = torch.amp.GradScaler(device="cpu", enabled=False)
    else:
        scaler = torch.amp.GradScaler(device="cpu", init_scale=2.0**20, growth_interval=6)
    dtype = torch.bfloat16 if variant == "scaler_off" else torch.float16
    params = list(model.parameters())
    kept: list[Tensor | None] = [None] * len(params)  # keep * g, unscaled
    place = WAYS[way].place

    def clear() -> None:
        if mode == "zero":
            _script_clear(model, optimizer, way)
            return
        for p, k in zip(params, kept, strict=True):
            if k is None:
                p.grad = None
            elif WAYS[way].in_place and p.grad is not None:
                p.grad.copy_(k * scaler.get_scale())
            else:
                p.grad = k * scaler.get_scale()

    losses = []
    for _epoch in range(5):
        for batch in torch.randperm(128).split(16):  # type: ignore[no-untyped-call]
            if place == "top":
                clear()
            with torch.autocast("cpu", dtype=dtype):
                loss = mse_loss(model(inputs[batch]).float(), targets[batch])
            if place == "before":
                clear()
            scale = scaler.get_scale()
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            if variant == "scaler_clip":
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(params, 0.25)
            scaler.step(optimizer)  # leaves unscaled gradients in .grad
            scaler.update()
            if scaler.get_scale() >= scale:  # the step was not skipped
                kept = [MODES[mode] * p.grad for p in params if p.grad is not None]
            if place == "after":
                clear()
            losses.append(loss.item())
    return losses


def _optimizer(model: nn.Module, variant: str) -> torch.optim.Optimizer:
    if variant == "adam":
        return torch.optim.Adam(model.parameters(), lr=0.01)
    if variant in ("adamw_clip", "scaler_clip"):
        return torch.optim.AdamW(model.parameters(), lr=0.01)
    return torch.optim.SGD(model.parameters(), lr=0.05 if variant == "sgd_steplr" else 0.02)
