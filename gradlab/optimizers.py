"""Optimizers by name: any of torch.optim by its class name, or `vanilla`, the update written out.

Names and options are read from torch's source files, not from the imported module: a mistyped name is answered at once
instead of after the seconds that `import torch` takes.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import math
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from gradlab.errors import OptimizerError, shortened, unknown
from gradlab.startup import without_compiler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from torch import nn

VANILLA = "vanilla"
LINEAR = (VANILLA, "SGD", "ASGD")  # what is kept in .grad makes their steps longer, as a larger lr does
_REFUSED = {"LBFGS": "it evaluates the loss several times an update, so that no mode says what is left in .grad"}


class Optimizer(Protocol):
    """What the training loop asks of an optimizer."""

    def step(self) -> object:
        """Update the parameters from their `.grad`."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear `.grad`."""


class Scheduler(Protocol):
    """What the training loop asks of a learning-rate schedule."""

    def step(self) -> None:
        """Set the learning rate of the next update."""


# The factor of the learning rate when a share of all updates, from 0 to 1, has been taken.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": lambda share: 1 - share,
    "cosine": lambda share: (1 + math.cos(math.pi * share)) / 2,
}


class Vanilla:
    """Gradient descent without torch.optim: w ← w − lr·w.grad."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        self.parameters = list(parameters)
        self.lr = lr

    def step(self) -> None:
        """Update the parameters that have a gradient."""
        import torch

        with torch.no_grad():
            for w in self.parameters:
                if w.grad is not None:
                    w.sub_(w.grad, alpha=self.lr)  # `w -= lr * w.grad` in one rounding instead of two, as torch.optim

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear `.grad` by hand."""
        for w in self.parameters:
            if set_to_none:
                w.grad = None
            elif w.grad is not None:
                w.grad.zero_()


def names() -> list[str]:
    """Return the names that `find` knows, as torch writes them, without importing torch."""
    return [VANILLA, *sorted(set(_classes()) - set(_REFUSED), key=str.lower)]


def find(name: str) -> str:
    """Return the optimizer's name as torch writes it; capitals, `-` and `_` do not matter.

    Raises:
        OptimizerError: torch has no such optimizer, or it cannot be used here.
    """
    plain = _plain(name)
    if plain == VANILLA:
        return VANILLA
    for known in _classes():
        if _plain(known) == plain:
            if known in _REFUSED:
                raise OptimizerError(f"optimizer '{known}' cannot be used: {_REFUSED[known]}. Try SGD or Adam")
            return known
    raise OptimizerError(unknown("optimizer", name, names()))


def check_options(name: str, options: Mapping[str, object]) -> None:
    """Raise OptimizerError for an option that the optimizer `name` does not take, or a value of another kind."""
    known = {"lr": "float"} if name == VANILLA else _options(name)
    for option, value in options.items():
        if option not in known:
            raise OptimizerError(f"optimizer '{name}': {unknown('option', option, sorted(known))}")
        if (wanted := _wanted(known[option], value)) is not None:
            got = json.dumps(value, ensure_ascii=False)
            raise OptimizerError(f"optimizer '{name}': option {option} must be {wanted}, got {shortened(got)}")


# What a value of TOML must be for an annotation in torch's source: how it is said, and which types it may have.
_KINDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "bool": ("true or false", (bool,)),
    "int": ("an integer", (int,)),
    "float": ("a number", (int, float)),
    "str": ("a string", (str,)),
}


def _wanted(annotation: str, value: object) -> str | None:
    """Say what the annotation wants, such as `float | Tensor` or `tuple[float, float]`, where the value is not that.

    What is annotated in other words is left to torch.
    """
    if (found := re.search(r"\b[Tt]uple\[(.*)\]", annotation)) is not None:
        length = len(re.sub(r"\[[^\[\]]*\]", "", found[1]).split(","))  # commas in inner brackets do not count
        words = f"a list of {length} numbers"
        fits = isinstance(value, list | tuple) and len(value) == length
        numbers = [each for each in cast("list[object]", value) if each is not None] if fits else []  # no None in TOML
        return None if fits and all(_wanted("float", each) is None for each in numbers) else words
    kind = next((each for each in _KINDS if re.search(rf"\b{each}\b", annotation)), None)
    if kind is None:
        return None
    words, types = _KINDS[kind]
    return None if isinstance(value, types) and (kind == "bool" or not isinstance(value, bool)) else words


def build(name: str, parameters: Iterable[nn.Parameter], options: Mapping[str, Any]) -> Optimizer:
    """Return the optimizer `name` of these parameters.

    Raises:
        OptimizerError: torch refuses the value of an option.
    """
    import torch

    trained = [parameter for parameter in parameters if parameter.requires_grad]
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    if name == VANILLA:
        return Vanilla(trained, options["lr"])
    try:
        made = without_compiler(getattr(torch.optim, name))(trained, **given)
    except Exception as error:  # torch checks values in many ways, not all of them a ValueError
        raise OptimizerError(f"optimizer '{name}': {shortened(error, 200)}") from None
    if name == "SparseAdam":
        made.register_step_pre_hook(_check_sparse)
    return cast("Optimizer", made)


def joined(made: Sequence[Optimizer]) -> list[Optimizer]:
    """Return optimizers that step as these do, all of one kind: one of them that has the parameters of all.

    To call one of torch takes longer than what it does to a small tensor. One that is not of torch stays as it is.
    """
    from torch.optim import Optimizer as TorchOptimizer

    first, *others = made
    if not isinstance(first, TorchOptimizer):
        return list(made)
    for other in others:
        first.add_param_group(other.param_groups[0])  # type: ignore[attr-defined]  # it is torch's as well
    return [first]


def schedule(name: str, optimizer: Optimizer, updates: int) -> Scheduler:
    """Return the schedule `name` over so many updates: from the optimizer's lr down to 0, stepped once an update.

    Raises:
        OptimizerError: there is no such schedule, or the optimizer is not one of torch.optim.
    """
    from torch.optim import Optimizer as TorchOptimizer
    from torch.optim.lr_scheduler import LambdaLR

    if name not in SCHEDULES:
        raise OptimizerError(unknown("schedule", name, SCHEDULES))
    if not isinstance(optimizer, TorchOptimizer):
        raise OptimizerError(f"schedule '{name}' needs an optimizer of torch.optim, such as sgd")
    factor = SCHEDULES[name]
    made: Scheduler = LambdaLR(optimizer, lambda update: factor(min(1.0, update / updates)))
    return made


def _check_sparse(optimizer: Any, _args: object, _options: object) -> None:
    """Raise OptimizerError before a step along a dense gradient, which only the first step can tell."""
    for group in optimizer.param_groups:
        if any(each.grad is not None and not each.grad.is_sparse for each in group["params"]):
            raise OptimizerError(
                "optimizer 'SparseAdam' takes sparse gradients only, as of nn.Embedding(…, sparse=True). Try Adam"
            )


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "").replace("_", "")


@lru_cache(maxsize=1)
def _classes() -> dict[str, Path]:
    """Map the optimizers that torch.optim exports to the files that define them."""
    torch = importlib.util.find_spec("torch")
    if torch is None or torch.origin is None:
        raise OptimizerError("torch is not installed: pip install torch")
    package = Path(torch.origin).parent
    found: dict[str, Path] = {}
    for node in ast.parse((package / "optim" / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            name = f"torch.optim.{node.module}" if node.level else node.module  # relative before torch 2.5
            file = package.parent.joinpath(*name.split(".")).with_suffix(".py")
            found |= {each.name: file for each in node.names if each.name[0].isupper() and file.is_file()}
    found.pop("Optimizer", None)
    return found


@lru_cache
def _options(name: str) -> dict[str, str]:
    """Return the options that the optimizer's constructor takes, and how each is annotated; "" where it is not."""
    for node in ast.parse(_classes()[name].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            for each in node.body:
                if isinstance(each, ast.FunctionDef) and each.name == "__init__":
                    arguments = [*each.args.posonlyargs, *each.args.args, *each.args.kwonlyargs]
                    return {
                        argument.arg: ast.unparse(argument.annotation) if argument.annotation else ""
                        for argument in arguments
                        if argument.arg not in ("self", "params")
                    }
    return {"lr": "float"}
