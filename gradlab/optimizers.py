"""Optimizers by name: any class of torch.optim, or `vanilla`, gradient descent written out.

Names and options are read from torch's source files. So a mistyped name is reported without the slow `import torch`.
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
LINEAR = (VANILLA, "SGD", "ASGD")  # their steps are proportional to .grad, so keep acts like a larger lr
_REFUSED = {"LBFGS": "it evaluates the loss several times per update, so modes do not apply"}


class Optimizer(Protocol):
    """The methods of an optimizer that the training loop calls."""

    def step(self) -> object:
        """Update the parameters from their `.grad`."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear `.grad`."""


class Scheduler(Protocol):
    """The method of a learning-rate schedule that the training loop calls."""

    def step(self) -> None:
        """Set the learning rate of the next update."""


# Factor on the learning rate, by the completed share of all updates (0 to 1).
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
                    w.sub_(w.grad, alpha=self.lr)  # like `w -= lr * w.grad`, but rounded once, as in torch.optim

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear `.grad` by hand."""
        for w in self.parameters:
            if set_to_none:
                w.grad = None
            elif w.grad is not None:
                w.grad.zero_()


def names() -> list[str]:
    """Return the names that `find` accepts, in torch's spelling, without importing torch."""
    return [VANILLA, *sorted(set(_classes()) - set(_REFUSED), key=str.lower)]


def find(name: str) -> str:
    """Return the optimizer's name in torch's spelling; case, `-` and `_` do not matter.

    Raises:
        OptimizerError: torch has no such optimizer, or gradlab does not support it.
    """
    plain = _plain(name)
    if plain == VANILLA:
        return VANILLA
    for known in _classes():
        if _plain(known) == plain:
            if known in _REFUSED:
                raise OptimizerError(f"optimizer '{known}' is not supported: {_REFUSED[known]}. Try SGD or Adam")
            return known
    raise OptimizerError(unknown("optimizer", name, names()))


def check_options(name: str, options: Mapping[str, object]) -> None:
    """Raise OptimizerError for an option that the optimizer `name` does not take, or a value of the wrong type."""
    known = {"lr": "float"} if name == VANILLA else _options(name)
    for option, value in options.items():
        if option not in known:
            raise OptimizerError(f"optimizer '{name}': {unknown('option', option, sorted(known))}")
        if (wanted := _wanted(known[option], value)) is not None:
            got = json.dumps(value, ensure_ascii=False)
            raise OptimizerError(f"optimizer '{name}': option {option} must be {wanted}, got {shortened(got)}")


# For each annotation in torch's source: the words of the message, and the types that a TOML value may have.
_KINDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "bool": ("true or false", (bool,)),
    "int": ("an integer", (int,)),
    "float": ("a number", (int, float)),
    "str": ("a string", (str,)),
}


def _wanted(annotation: str, value: object) -> str | None:
    """Return the expected kind of value if `value` does not fit the annotation, else None.

    Annotations look like `float | Tensor` or `tuple[float, float]`. Torch checks all others.
    """
    if (found := re.search(r"\b[Tt]uple\[(.*)\]", annotation)) is not None:
        length = len(re.sub(r"\[[^\[\]]*\]", "", found[1]).split(","))  # ignores commas in inner brackets
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
    """Return the optimizer `name` for these parameters.

    Raises:
        OptimizerError: torch rejects the value of an option.
    """
    import torch

    trained = [parameter for parameter in parameters if parameter.requires_grad]
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    if name == VANILLA:
        return Vanilla(trained, options["lr"])
    try:
        made = without_compiler(getattr(torch.optim, name))(trained, **given)
    except Exception as error:  # torch raises several types for a bad value
        raise OptimizerError(f"optimizer '{name}': {shortened(error, 200)}") from None
    if name == "SparseAdam":
        made.register_step_pre_hook(_check_sparse)
    return cast("Optimizer", made)


def joined(made: Sequence[Optimizer]) -> list[Optimizer]:
    """Merge torch optimizers of one class into the first, as parameter groups; return others unchanged.

    One call is faster than many: the overhead of a torch optimizer exceeds its work on small tensors.
    """
    from torch.optim import Optimizer as TorchOptimizer

    first, *others = made
    if not isinstance(first, TorchOptimizer):
        return list(made)
    for other in others:
        first.add_param_group(other.param_groups[0])  # type: ignore[attr-defined]  # also torch's
    return [first]


def schedule(name: str, optimizer: Optimizer, updates: int) -> Scheduler:
    """Return the schedule `name`: from the optimizer's lr to 0 over `updates` steps, stepped once per update.

    Raises:
        OptimizerError: the schedule does not exist, or the optimizer is not from torch.optim.
    """
    from torch.optim import Optimizer as TorchOptimizer
    from torch.optim.lr_scheduler import LambdaLR

    if name not in SCHEDULES:
        raise OptimizerError(unknown("schedule", name, SCHEDULES))
    if not isinstance(optimizer, TorchOptimizer):
        raise OptimizerError(f"schedule '{name}' needs an optimizer from torch.optim, such as sgd")
    factor = SCHEDULES[name]
    made: Scheduler = LambdaLR(optimizer, lambda update: factor(min(1.0, update / updates)))
    return made


def _check_sparse(optimizer: Any, _args: object, _options: object) -> None:
    """Raise OptimizerError if a gradient is dense; this is unknown before the first step."""
    for group in optimizer.param_groups:
        if any(each.grad is not None and not each.grad.is_sparse for each in group["params"]):
            raise OptimizerError(
                "optimizer 'SparseAdam' needs sparse gradients, such as those of nn.Embedding(…, sparse=True). "
                "Try Adam"
            )


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "").replace("_", "")


@lru_cache(maxsize=1)
def _classes() -> dict[str, Path]:
    """Return the file of each optimizer that torch.optim exports."""
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
    """Return the constructor's options with their annotations; "" for options without one."""
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
