"""Names of parameters, searched for in all living modules when a finding needs them.

A search goes through all objects that Python's garbage collector knows, which takes a tenth of a second. So their
number is limited, but creating and calling modules costs nothing.
"""

from __future__ import annotations

import gc
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.audit.history.parameters import Parameter
from gradlab.audit.places import is_user_code

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

DEEPEST = 100  # nested modules
MOST_TIMES = 16  # searches for names


class _Held(NamedTuple):
    """The module that holds something, and its name there; `aside` if it is in a plain list or dict."""

    by: nn.Module
    name: str
    aside: bool


class Namer:
    """Names parameters, with a limited number of searches."""

    def __init__(self) -> None:
        self._times = 0

    @property
    def exhausted(self) -> bool:
        """Whether the limit of searches is reached."""
        return self._times >= MOST_TIMES

    def name(self, tensors: Sequence[Tensor]) -> list[Parameter]:
        """Return the tensors as parameters without numbers, and without names once exhausted."""
        if self.exhausted:
            return [Parameter(tuple(each.shape)) for each in tensors]
        self._times += 1
        return parameters_of(tensors)


def parameters_of(tensors: Sequence[Tensor]) -> list[Parameter]:
    """Return the tensors as parameters, with their names in living modules."""
    holders = _holders(modules_alive(), {id(each) for each in tensors})
    attributes: dict[int, str] = {}
    return [_parameter(each, holders, attributes) for each in tensors]


def modules_alive() -> list[nn.Module]:
    """Return all living modules."""
    from torch import nn

    # not isinstance(): it reads __class__, which triggers lazy objects
    return [each for each in gc.get_objects() if issubclass(type(each), nn.Module)]


def _holders(modules: list[nn.Module], wanted: set[int]) -> dict[int, _Held]:
    """Return the holders of all modules and wanted tensors, by id; registered places come first."""
    known = wanted | {id(each) for each in modules}
    holders: dict[int, _Held] = {}
    for aside in (False, True):
        for module in modules:
            for name, each in (_aside if aside else _registered)(vars(module)):
                if id(each) in known:
                    holders.setdefault(id(each), _Held(module, name, aside))
    return holders


def _registered(attributes: dict[str, Any]) -> Iterator[tuple[str, object]]:
    for kind in ("_parameters", "_modules"):
        yield from (attributes.get(kind) or {}).items()


def _aside(attributes: dict[str, Any]) -> Iterator[tuple[str, object]]:
    for name, value in attributes.items():
        if not (name.startswith("_") and name.endswith(("_parameters", "_modules"))):
            items = enumerate(value) if type(value) in {list, tuple} else value.items() if type(value) is dict else ()
            yield from ((f"{name}[{key!r}]", each) for key, each in items)


def _parameter(tensor: Tensor, holders: dict[int, _Held], attributes: dict[int, str]) -> Parameter:
    """Return a parameter with its name; `attributes` caches the names of networks by id."""
    names: list[str] = []
    unseen, root = "", None
    held, training = holders.get(id(tensor)), True
    if held is not None:
        training = held.by.training
    while held is not None and len(names) < DEEPEST:
        names.append(held.name)
        if held.aside:
            unseen = held.name.partition("[")[0]
        root = held.by
        held = holders.get(id(root))
    if root is not None and id(root) not in attributes:
        attributes[id(root)] = network_name(root)
    name = f"{'.'.join(reversed(names))} of {attributes[id(root)]}" if names else ""
    return Parameter(tuple(tensor.shape), None, name, unseen, training)


def network_name(network: nn.Module) -> str:
    """Return the class of a network, and its attribute or global variable in the user's code, if any."""
    variable = ""
    for each in gc.get_referrers(network):
        if type(each) is dict and _is_of_user_module(each):
            names = [name for name, value in each.items() if value is network and isinstance(name, str)]
            variable = variable or next((name for name in names if not name.startswith("_")), "")
            continue
        owners = gc.get_referrers(each) if type(each) is dict else [each]
        for owner in owners:
            for name, value in _attributes(owner).items():
                if value is network and isinstance(name, str):
                    return f"{type(owner).__name__}.{name} ({type(network).__name__})"
    return f"{variable} ({type(network).__name__})" if variable else type(network).__name__


def _is_of_user_module(variables: dict[Any, Any]) -> bool:
    """Say whether these are the global variables of a module of the user's code, or of a notebook."""
    file, name = variables.get("__file__"), variables.get("__name__")
    return isinstance(name, str) and (is_user_code(file) if isinstance(file, str) else name == "__main__")


def _attributes(owner: object) -> dict[str, Any]:
    """Return the attributes of an object if the user's code defines its class."""
    methods = [each for each in vars(type(owner)).values() if type(each) is FunctionType]
    if not any(is_user_code(each.__code__.co_filename) for each in methods):
        return {}
    attributes = getattr(owner, "__dict__", None)
    return attributes if type(attributes) is dict else {}
