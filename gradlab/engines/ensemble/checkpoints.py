"""Checkpoints of a stack: one state per run, so that runs can resume with others or alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradlab.engines.resuming import (
    CannotResumeError,
    load_optimizer,
    load_scheduler,
    state_dict_of,
    to_plain_values,
)
from gradlab.tasks.hashing import hash_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from gradlab.engines.ensemble.loop import StackedTraining
    from gradlab.engines.ensemble.stack import ParameterGroup
    from gradlab.optimizers import Optimizer, Scheduler

_KEY = "stacked"  # marks a state of this kind


def is_stacked(state: Mapping[str, Any]) -> bool:
    """Return whether the state belongs to a run of a stack."""
    return _KEY in state


def snapshots(training: StackedTraining) -> list[dict[str, Any]]:
    """Return one state per run, in the order of the members; it is enough to resume after the last step.

    A state holds copies of the run's slices of the parameters, `.grad` and the optimizer's state. It also holds what
    all runs share: schedule, position and the optimizer's counters. From the task, it holds the generators' states at
    the start of the pass and the hash of the last batch.
    """
    position = training.cursor.state_dict()
    batches = [hash_of(batch) for batch in training.cursor.batch]
    pass_starts = [to_plain_values(seed.generators.begin) for seed in training.seeds]
    found: dict[int, dict[str, Any]] = {}
    if training.stack.deferred:
        training.stack.deferred.apply_keep()
    for group, made, schedule in _groups(training):
        optimizer, scheduler = state_dict_of(made), state_dict_of(schedule)
        for nth, member in enumerate(group.members):
            task = training.stack.members[member].task
            found[member] = {
                _KEY: 1,
                "place": position["place"],
                "told": position["told"],
                "batch": batches[task],
                "generators": pass_starts[task],
                "model": {name: each.detach()[nth].clone() for name, each in group.parameters.items()},
                "grad": {name: None if each is None else each[nth].clone() for name, each in group.gradients.items()},
                "optimizer": None if optimizer is None else _sliced(optimizer, group, nth),
                "scheduler": scheduler,
            }
    return [found[member] for member in range(len(found))]


def restore(states: Sequence[Mapping[str, Any]], training: StackedTraining) -> None:
    """Restore states from `snapshots` in a training that was just built; they may come from different stacks.

    The generators return to the start of the current pass. The training loop then draws its earlier batches again and
    calls `cursor.on_redrawn`.

    Raises:
        CannotResumeError: the states belong to different steps, models or tasks. The training loop raises it too, if
            the batches differ.
    """
    first = states[0]
    if any((state["place"], state["told"]) != (first["place"], first["told"]) for state in states):
        raise CannotResumeError("its runs are at different steps")
    for group, optimizer, scheduler in _groups(training):
        _put_back(group, optimizer, scheduler, [states[member] for member in group.members])
    if training.stack.deferred:
        training.stack.deferred.link(training.stack.groups)
    training.cursor.load_state_dict(first)
    of_task = {member.task: state for member, state in zip(training.stack.members, states, strict=True)}
    for task, seed in enumerate(training.seeds):
        if begin := of_task[task]["generators"]:  # empty if batches are a plain list
            seed.generators.set(begin)
            seed.state = begin

    def check_batches(batches: list[Any] | None) -> None:
        if [hash_of(batch) for batch in batches or []] != [of_task[task]["batch"] for task in sorted(of_task)]:
            raise CannotResumeError("the task does not draw the same batches again")

    training.cursor.on_redrawn = check_batches


def _groups(training: StackedTraining) -> Iterator[tuple[ParameterGroup, Optimizer, Scheduler | None]]:
    """Yield each group with its optimizer and schedule. Stacks with one joint optimizer have no checkpoints."""
    return zip(training.stack.groups, training.optimizers, training.schedulers, strict=True)


def _sliced(optimizer: Mapping[str, Any], group: ParameterGroup, nth: int) -> dict[str, Any]:
    """Return an optimizer's state for one run: its slices of per-element tensors, and all shared values."""
    shapes = [each.shape for each in group.parameters.values()]
    own: dict[int, dict[str, Any]] = {}
    shared: dict[Any, Any] = {}
    for index, values in optimizer["state"].items():
        if not isinstance(index, int):  # of the whole optimizer
            shared[index] = values
            continue
        own[index], shared[index] = {}, {}
        for name, value in values.items():
            if getattr(value, "shape", None) == shapes[index]:
                own[index][name] = value[nth].clone()
            else:
                shared[index][name] = value.clone() if hasattr(value, "clone") else value
    return {"own": own, "shared": shared, "param_groups": optimizer["param_groups"]}


def _put_back(
    group: ParameterGroup, optimizer: Optimizer, scheduler: Scheduler | None, states: list[Mapping[str, Any]]
) -> None:
    """Restore the slices of one group."""
    import torch

    with torch.no_grad():
        for name, each in group.parameters.items():
            each.copy_(_stack([state["model"].get(name) for state in states], each))
            grads = [state["grad"].get(name) for state in states]
            each.grad = None if all(grad is None for grad in grads) else _stack(grads, each)
    if states[0]["optimizer"] is not None:
        load_optimizer(_joined([state["optimizer"] for state in states], group), optimizer)
    if states[0]["scheduler"] is not None:
        load_scheduler(states[0]["scheduler"], scheduler)


def _stack(slices: list[Tensor | None], like: Tensor) -> Tensor:
    """Stack the slices into one tensor on the device of the parameter `like`."""
    import torch

    present = [each for each in slices if each is not None]
    if len(present) < len(slices) or any(each.shape != like.shape[1:] for each in present):
        raise CannotResumeError("the model has other weights now, or its runs use different weights")
    return torch.stack(present).to(like.device)


def _joined(optimizers: list[Mapping[str, Any]], group: ParameterGroup) -> dict[str, Any]:
    """Return a group's optimizer state from those of its runs; the inverse of `_sliced`."""
    first = optimizers[0]
    if any(hash_of(each["shared"]) != hash_of(first["shared"]) for each in optimizers):
        raise CannotResumeError("the optimizers of its runs are at different steps")
    shared = first["shared"].items()
    state = {index: dict(values) if isinstance(index, int) else values for index, values in shared}
    for index, parameter in enumerate(group.parameters.values()):
        for name in first["own"].get(index, {}):
            state[index][name] = _stack([each["own"].get(index, {}).get(name) for each in optimizers], parameter)
    return {"state": state, "param_groups": first["param_groups"]}
