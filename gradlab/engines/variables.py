"""Variables that a task's code keeps between calls: in closures, in attributes, and in containers of its loss."""

from __future__ import annotations

from collections import deque
from functools import cache, partial
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from gradlab.engines.resuming import MOST_SEARCHED
from gradlab.tasks.sources import is_of_user
from gradlab.tasks.task import SupervisedLoss

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from torch import nn

    Restore = Callable[[], object]


def kept_variables(functions: Iterable[Any], *, containers: bool = False) -> list[Restore]:
    """Return functions that give the variables of these functions their present values again.

    They cover closures, attributes of the user's objects, and modules. With `containers`, also the elements of lists,
    dicts and sets in these. They do not cover globals, objects within containers, and tensors changed in place.
    """
    from torch import nn

    restores: list[Restore] = []
    waiting, seen = list(functions), set[int]()
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type):
            continue
        seen.add(id(thing))
        if isinstance(thing, nn.Module):
            restores += kept_modules(thing)
        elif isinstance(thing, list | dict | set | deque):
            restores += [_kept_container(thing)] if containers and len(thing) < MOST_SEARCHED else []
        elif isinstance(thing, FunctionType):
            cells = [cell for cell in thing.__closure__ or () if _is_filled(cell)]
            restores += [partial(setattr, cell, "cell_contents", cell.cell_contents) for cell in cells]
            waiting += [getattr(thing, "__wrapped__", None), *(cell.cell_contents for cell in cells)]
        elif hasattr(thing, "__dict__") and is_of_user(type(thing)):
            restores.append(_kept_attributes(vars(thing)))
            waiting += vars(thing).values()
        else:
            waiting += _called_by(thing)
    return restores


def kept_modules(model: nn.Module) -> list[Restore]:
    """Return functions that restore the buffers and the attributes of a model's modules, but not their weights."""
    return [_kept_module(module) for module in model.modules()]


def _called_by(thing: Any) -> list[Any]:
    """Return what a bound method, a partial or gradlab's own loss calls."""
    if isinstance(thing, MethodType):
        return [thing.__self__, thing.__func__]
    if isinstance(thing, partial):
        return [thing.func, *thing.args, *thing.keywords.values()]
    return [thing.criterion] if isinstance(thing, SupervisedLoss) else []


def _kept_module(module: nn.Module) -> Restore:
    kind, buffers = type(module), [(*each, each[1].clone()) for each in module.named_buffers(recurse=False)]
    restore_attributes = _kept_attributes(vars(module), _names_of_torch())

    def restore() -> None:
        for name, buffer, content in buffers:
            buffer.copy_(content)
            setattr(module, name, buffer)
        if type(module) is kind:  # a lazy module becomes another one once it knows its shape
            restore_attributes()

    return restore


@cache
def _names_of_torch() -> frozenset[str]:
    """Return the attributes that every module has, such as those that hold its weights."""
    from torch import nn

    return frozenset(vars(nn.Module()))


def _kept_attributes(attributes: dict[str, Any], apart: Collection[str] = ()) -> Restore:
    kept = {name: value for name, value in attributes.items() if name not in apart}

    def restore() -> None:
        for name in [name for name in attributes if name not in kept and name not in apart]:
            del attributes[name]
        attributes.update(kept)

    return restore


def _kept_container(container: Any) -> Restore:
    kept = container.copy()

    def restore() -> None:
        container.clear()
        (container.extend if isinstance(container, list | deque) else container.update)(kept)

    return restore


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - raises for a variable without a value yet
    except ValueError:
        return False
    return True
