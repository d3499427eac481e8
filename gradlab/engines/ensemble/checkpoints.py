"""Checkpoints of a stack: of each run what it needs to resume, with others or alone, in a file of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradlab.engines.resuming import CannotResumeError, load_optimizer, state_dict_of, to_plain_values
from gradlab.tasks.hashing import hash_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from gradlab.engines.ensemble.loop import StackedTraining
    from gradlab.engines.ensemble.stack import ParameterGroup
    from gradlab.optimizers import Optimizer, Scheduler

_KEY = "stacked"  # marks a state of this kind


def is_stacked(state: Mapping[str, Any]) -> bool:
    """Say whether a state is that of a run of a stack."""
    return _KEY in state


def snapshots(training: StackedTraining) -> list[dict[str, Any]]:
    """Return of each run, in the order of the members, all that it needs to resume after the step yielded last.

    That is its slices of the parameters, of `.grad` and of the optimizer's state, and what all runs share: schedule,
    position and what the optimizer counts. Of its task, the state of the generators when the pass began, and the hash
    of the batch drawn last. All are copies.
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
    """Put a training that was just built where `snapshots` found another one, its runs alone or among others.

    The training draws the batches of the current pass again, from generators put back to where the pass began; then
    it calls `cursor.on_redrawn`.

    Raises:
        CannotResumeError: the states are not of one step, or of other models or tasks than these; from the training,
            too, when a task draws other batches.
    """
    first = states[0]
    if any((state["place"], state["told"]) != (first["place"], first["told"]) for state in states):
        raise CannotResumeError("its runs do not stand at one step")
    for group, optimizer, scheduler in _groups(training):
        _put_back(group, optimizer, scheduler, [states[member] for member in group.members])
    if training.stack.deferred:
        training.stack.deferred.link(training.stack.groups)
    training.cursor.load_state_dict(first)
    of_task = {member.task: state for member, state in zip(training.stack.members, states, strict=True)}
    for task, seed in enumerate(training.seeds):
        if begin := of_task[task]["generators"]:  # there is none where batches are a plain list
            seed.generators.set(begin)
            seed.state = begin

    def check_batches(batches: list[Any] | None) -> None:
        if [hash_of(batch) for batch in batches or []] != [of_task[task]["batch"] for task in sorted(of_task)]:
            raise CannotResumeError("the task does not draw the same batches again")

    training.cursor.on_redrawn = check_batches


def _groups(training: StackedTraining) -> Iterator[tuple[ParameterGroup, Optimizer, Scheduler | None]]:
    """Yield each group with its optimizer and schedule: runs whose optimizers have other options are not saved."""
    return zip(training.stack.groups, training.optimizers, training.schedulers, strict=True)


def _sliced(optimizer: Mapping[str, Any], group: ParameterGroup, nth: int) -> dict[str, Any]:
    """Return an optimizer's state: a slice of what there is of each element apart from what is shared."""
    shapes = [each.shape for each in group.parameters.values()]
    own: dict[int, dict[str, Any]] = {}
    shared: dict[int, dict[str, Any]] = {}
    for index, values in optimizer["state"].items():
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
    """Put back the slices of one group."""
    import torch

    with torch.no_grad():
        for name, each in group.parameters.items():
            each.copy_(_stack([state["model"].get(name) for state in states], each))
            grads = [state["grad"].get(name) for state in states]
            each.grad = None if all(grad is None for grad in grads) else _stack(grads, each)
    if states[0]["optimizer"] is not None:
        load_optimizer(_joined([state["optimizer"] for state in states], group), optimizer)
    if states[0]["scheduler"] is not None:
        scheduler.load_state_dict(states[0]["scheduler"])  # type: ignore[union-attr]  # what gave one takes it


def _stack(slices: list[Tensor | None], like: Tensor) -> Tensor:
    """Return the slices of a parameter, or of what is like one, in one tensor."""
    import torch

    there = [each for each in slices if each is not None]
    if len(there) < len(slices) or any(each.shape != like.shape[1:] for each in there):
        raise CannotResumeError("the model has other weights now, or its runs differ in which of them are used")
    return torch.stack(there).to(like.device)


def _joined(optimizers: list[Mapping[str, Any]], group: ParameterGroup) -> dict[str, Any]:
    """Return the state of the optimizer of a group from those of its runs, the opposite of `_sliced`."""
    first = optimizers[0]
    if any(hash_of(each["shared"]) != hash_of(first["shared"]) for each in optimizers):
        raise CannotResumeError("its runs have taken steps of different number")
    state = {index: dict(values) for index, values in first["shared"].items()}
    for index, parameter in enumerate(group.parameters.values()):
        for name in first["own"].get(index, {}):
            state[index][name] = _stack([each["own"].get(index, {}).get(name) for each in optimizers], parameter)
    return {"state": state, "param_groups": first["param_groups"]}
