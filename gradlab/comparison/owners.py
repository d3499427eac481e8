"""The optimizers of a script that hold the same parameters, one after the other, and these parameters."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.optim import Optimizer


class Owners:
    """Optimizers with the same parameters. Neither is kept alive."""

    def __init__(self, optimizer: Optimizer, on_freed: Callable[[], None] | None = None) -> None:
        self._on_freed = on_freed
        self._optimizers: list[weakref.ref[Optimizer]] = []
        self._parameters: list[weakref.ref[Tensor]] = []
        self._add(optimizer)

    def _add(self, optimizer: Optimizer) -> None:
        self._optimizers = [each for each in self._optimizers if each() is not None]
        self._optimizers.append(weakref.ref(optimizer, self._freed))
        self.remember(parameters_of(optimizer))

    def _freed(self, _: object) -> None:
        if self._on_freed is not None:
            self._on_freed()

    def join(self, optimizer: Optimizer) -> bool:
        """Add this optimizer if it has the same parameters; return whether it has."""
        if [*map(id, parameters_of(optimizer))] != [*map(id, self.parameters())]:
            return False
        self._add(optimizer)
        return True

    def parameters(self) -> list[Tensor]:
        """Return the parameters in order, those of the latest optimizer that is alive; none once they are gone."""
        for reference in reversed(self._optimizers):
            if (optimizer := reference()) is not None:
                return parameters_of(optimizer)
        found = [each() for each in self._parameters]
        return [] if None in found else found  # type: ignore[return-value]  # none of them is None

    def remember(self, parameters: list[Tensor]) -> None:
        """Remember these parameters for when the optimizer is gone."""
        if len(parameters) != len(self._parameters):
            self._parameters = [weakref.ref(each) for each in parameters]

    @property
    def are_gone(self) -> bool:
        """Whether no optimizer and no parameters are left."""
        return all(each() is None for each in self._optimizers) and not self.parameters()


def parameters_of(optimizer: Optimizer) -> list[Tensor]:
    """Return the parameters of an optimizer in order."""
    groups = optimizer.param_groups
    if len(groups) == 1:
        return list(groups[0]["params"])
    return [each for group in groups for each in group["params"]]
