"""New optimizers that hold the parameters of a deleted one, and whether they begin without its state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradlab.audit.recording.samples import sample

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from gradlab.audit.history.history import OptimizerHistory
    from gradlab.audit.recording.samples import Sample


class RestartChecks:
    """Checks the first step of each new optimizer with the same parameters, from the second one on."""

    def __init__(self, history: OptimizerHistory) -> None:
        self._history = history
        self._created = 1  # those that have stepped
        self._weights: Sample = None  # of one parameter after the last step

    def step_started(self, optimizer: Optimizer) -> None:
        """Check the state before a step. Other weights than after the last step mean that training begins again."""
        if self._history.created == self._created:
            return
        self._created, restarts = self._history.created, self._history.seen.restarts
        p = _parameter_of(optimizer)
        if p is None or self._weights is None or sample(p) != self._weights:
            return
        if _holds_tensors(optimizer, p):
            restarts.filled += 1
        else:
            restarts.empty += 1
            restarts.since = restarts.since or self._history.updates + 1

    def step_ended(self, optimizer: Optimizer) -> None:
        """Store the weights after a step, and whether the optimizer holds state."""
        p = _parameter_of(optimizer)
        self._weights = None if p is None else sample(p)
        restarts = self._history.seen.restarts
        if p is not None and not restarts.holds_state:
            restarts.holds_state = _holds_tensors(optimizer, p)


def _parameter_of(optimizer: Optimizer) -> Tensor | None:
    """Return a parameter that the step moves."""
    every = (p for group in optimizer.param_groups for p in group["params"])
    return next((p for p in every if p.requires_grad and p.grad is not None), None)


def _holds_tensors(optimizer: Optimizer, p: Tensor) -> bool:
    """Say whether the state has a tensor as large as the parameter, not only a count of steps."""
    state: dict[str, Any] = optimizer.state.get(p, {})
    return any(hasattr(each, "numel") and each.numel() == p.numel() for each in state.values())
