"""Modes of modules: eval mode while training, and `requires_grad` set on a module, which has no effect."""

from __future__ import annotations

import weakref
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.audit.history.setup import EvalMode, IgnoredFlag
from gradlab.audit.places import is_user_code
from gradlab.audit.recording.names import modules_alive, network_name

if TYPE_CHECKING:
    from torch import nn

    from gradlab.audit.recording.watched import WatchedOptimizer

MOST_MODULES = 64


class _Network(NamedTuple):
    """What a module has of an optimizer's trained parameters, and its layers that eval mode changes."""

    parameters: int  # of the optimizer
    trained: int  # of these, the number that requires gradient
    own: frozenset[int]  # ids of those in the module
    layers: list[weakref.ref[nn.Module]]


class EvalModes:
    """Looks whether the whole network of an optimizer is in eval mode at its steps."""

    def __init__(self) -> None:
        self._modules: list[weakref.ref[nn.Module]] = []  # that eval() was called on
        self._networks: dict[tuple[int, int], _Network] = {}  # by module and optimizer
        self._last: weakref.WeakKeyDictionary[WatchedOptimizer, tuple[int, bool]] = weakref.WeakKeyDictionary()

    def entered(self, module: nn.Module) -> None:
        """Remember a module on which eval() was called."""
        if any(each() is module for each in self._modules):
            return
        self._modules = [each for each in self._modules if each() is not None]
        if len(self._modules) < MOST_MODULES:
            self._modules.append(weakref.ref(module))
            self._networks = {key: each for key, each in self._networks.items() if key[0] != id(module)}

    def look(self, watched: WatchedOptimizer) -> None:
        """Check the modes after a measured step of this optimizer."""
        if not self._modules:
            return
        update = watched.history.updates
        last, was = self._last.get(watched, (update, False))
        found = self._in_eval(watched)
        self._last[watched] = update, found is not None
        if found is None:
            return
        module, layers = found
        kinds = tuple(sorted({type(layer).__name__ for layer in layers}))
        mode = watched.history.seen.eval_mode or EvalMode(type(module).__name__, kinds, len(layers), update)
        mode.times += 1
        mode.updates += update - last if was else 1
        watched.history.seen.eval_mode = mode

    def _in_eval(self, watched: WatchedOptimizer) -> tuple[nn.Module, list[nn.Module]] | None:
        """Return the module in eval mode and its layers that this changes, if it is the whole network.

        Several modules may make up the network. Most of the layers must be in eval mode.
        """
        modules = [module for each in self._modules if (module := each()) is not None and not module.training]
        networks = [(module, self._network(module, watched)) for module in modules]
        networks = [(module, each) for module, each in networks if each.own]
        if not networks or len(frozenset().union(*(each.own for _, each in networks))) < networks[0][1].trained:
            return None
        layers = {id(layer): layer for _, each in networks for one in each.layers if (layer := one()) is not None}
        in_eval = [layer for layer in layers.values() if not layer.training]
        largest = max(networks, key=lambda each: len(each[1].own))[0]
        return (largest, in_eval) if 2 * len(in_eval) > len(layers) else None

    def _network(self, module: nn.Module, watched: WatchedOptimizer) -> _Network:
        key = id(module), id(watched)
        known, parameters = self._networks.get(key), watched.parameters
        if known is None or known.parameters != len(parameters):
            trained = {id(p) for p in parameters if p.requires_grad}
            own = trained & {id(p) for p in module.parameters()}
            layers = [weakref.ref(each) for each in _changed_by_eval(module, trained)] if own else []
            known = self._networks[key] = _Network(len(parameters), len(trained), frozenset(own), layers)
        return known


def _changed_by_eval(module: nn.Module, trained: set[int]) -> list[nn.Module]:
    """Return the layers with dropout, and those with batch norm except where it is frozen."""
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.nn.modules.dropout import _DropoutNd
    from torch.nn.modules.rnn import RNNBase

    def changes(layer: Any) -> bool:
        if isinstance(layer, _BatchNorm):
            frozen = layer.affine and id(layer.weight) not in trained
            return layer.track_running_stats and not frozen
        if isinstance(layer, RNNBase):
            return layer.dropout > 0 and layer.num_layers > 1
        return isinstance(layer, _DropoutNd) and layer.p > 0

    return [each for each in module.modules() if changes(each)]


def ignored_flags(owned: set[int]) -> list[IgnoredFlag]:
    """Return the living modules with an attribute `requires_grad` that differs from all their parameters.

    `owned` are the ids of the parameters in optimizers; a module without any of them does not count. A class of the
    user's code that mentions the name may use the attribute itself, so it does not count either.
    """
    found = []
    for module in modules_alive():
        value = vars(module).get("requires_grad")
        if not isinstance(value, bool) or _mentions_it(type(module)):
            continue
        parameters = list(module.parameters())
        if not owned.isdisjoint(map(id, parameters)) and all(p.requires_grad != value for p in parameters):
            found.append(IgnoredFlag(value, network_name(module), len(parameters)))
    return found


def _mentions_it(kind: type) -> bool:
    methods = [each for one in kind.__mro__ for each in vars(one).values() if type(each) is FunctionType]
    codes = [each.__code__ for each in methods if is_user_code(each.__code__.co_filename)]
    return any("requires_grad" in (*each.co_names, *each.co_consts) for each in codes)
