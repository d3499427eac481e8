"""Optimizers by name: any class of torch.optim, a user's own, or `vanilla`, gradient descent written out.

Names and options are read from torch's source files. So a mistyped name is reported without the slow `import torch`.
"""

from __future__ import annotations

import ast
import inspect
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, cast

from gradlab import user_code
from gradlab.errors import OptimizerError, kind_of, raise_together, reason_of, shortened, unknown
from gradlab.signatures import (
    TakenOptions,
    definitions_in,
    option_faults,
    options_in,
    options_of,
    spelled_alike,
    torch_file,
)
from gradlab.startup import without_compiler
from gradlab.user_code import title_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from gradlab.user_code import FunctionName

    OptimizerName = str | FunctionName  # torch's or vanilla, or a user's own

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


def find(name: str, folder: Path | None = None) -> OptimizerName:
    """Return the optimizer's name in torch's spelling, or a user's own class, which is not imported.

    Case, `-` and `_` do not matter in torch's names. A relative FILE.py is searched in `folder`, then in the current
    folder.

    Raises:
        OptimizerError: no such optimizer or file exists, or gradlab does not support it.
    """
    if ":" in name:
        return user_code.find(name, folder, "optimizer")
    if (known := spelled_alike(name, (VANILLA, *_classes()))) in _REFUSED:
        raise OptimizerError(f"optimizer '{known}' is not supported: {_REFUSED[known]}. Try SGD or Adam")
    if known:
        return known
    hint = f"\nfor an optimizer in a file, write {shortened(name)}:CLASS" if name.endswith(".py") else ""
    raise OptimizerError(unknown("optimizer", name, [*names(), "FILE.py:NAME"]) + hint)


def faults_of_options(name: OptimizerName, options: Mapping[str, object]) -> Iterator[tuple[str, OptimizerError]]:
    """Yield each invalid option with its error, without importing torch or a user's file.

    An error of the class itself belongs to the option "name". Options that the source does not show are not checked.
    """
    taken: TakenOptions | None = None
    if isinstance(name, str):
        taken = TakenOptions({"lr": "float"}) if name == VANILLA else _options(name)
    elif name.given is not None:
        try:
            taken = options_of(load(name))
        except OptimizerError as error:
            yield "name", error
            return
    elif (file := user_code.source_file(name)) is not None:
        taken = options_in(file, name.function)
    if not isinstance(name, str) and _is_function(name):
        yield "name", _not_a_class(name, "a function")
    elif taken is not None:
        yield from _faults(name, taken, options)


def _is_function(name: FunctionName) -> bool:
    """Return whether a user's name stands for a function, without importing its file."""
    file = user_code.source_file(name)
    return file is not None and isinstance(definitions_in(file).get(name.function), ast.FunctionDef)


def _faults(
    name: OptimizerName, taken: TakenOptions, options: Mapping[str, object]
) -> Iterator[tuple[str, OptimizerError]]:
    if "lr" not in taken.annotations and not taken.takes_any:
        yield "name", OptimizerError(f"optimizer '{title_of(name)}' must take lr: def __init__(self, params, lr, …)")
        options = {key: value for key, value in options.items() if key != "lr"}
    yield from option_faults(f"optimizer '{title_of(name)}'", taken, options, "optimizer")


def check_options(name: OptimizerName, options: Mapping[str, object]) -> None:
    """Check the options of an optimizer. This imports a user's own class.

    Raises:
        OptimizerError: an option is unknown, missing or of the wrong type, or the class is no optimizer.
    """
    faults = faults_of_options(name, options)
    if not isinstance(name, str) and (taken := options_of(load(name))) is not None:
        faults = _faults(name, taken, options)
    raise_together([fault for _, fault in faults], OptimizerError)


def load(name: FunctionName) -> type[Any]:
    """Import and return a user's own optimizer class.

    Raises:
        OptimizerError: it cannot be imported, or is no class of torch.optim.Optimizer that takes plain steps.
    """
    from torch import optim

    kind: Any = user_code.load(name)
    if not isinstance(kind, type):
        raise _not_a_class(name, kind_of(kind))
    if not issubclass(kind, optim.Optimizer):
        raise _not_a_class(name, "another class")
    if issubclass(kind, optim.LBFGS):
        raise name.error(f" is not supported: {_REFUSED['LBFGS']}. Try SGD or Adam")
    missing = {"step"} if inspect.unwrap(kind.step) is inspect.unwrap(optim.Optimizer.step) else set()
    missing |= getattr(kind, "__abstractmethods__", frozenset())
    if missing:
        raise name.error(f": {name.function} does not define {', '.join(sorted(missing))}. Add def step(self).")
    try:
        inspect.signature(kind.step).bind(None)
    except TypeError:
        raise name.error(f": step of {name.function} needs arguments. gradlab calls step() without any.") from None
    return kind


def _not_a_class(name: FunctionName, found: str) -> OptimizerError:
    error = name.error(f": {name.function} is {found}, not a class derived from torch.optim.Optimizer")
    return cast("OptimizerError", error)


def build(name: OptimizerName, parameters: Iterable[nn.Parameter], options: Mapping[str, Any]) -> Optimizer:
    """Return the optimizer `name` for these parameters.

    Raises:
        OptimizerError: the class rejects the value of an option, or raises another error.
    """
    import torch

    trained = [parameter for parameter in parameters if parameter.requires_grad]
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    if name == VANILLA:
        return Vanilla(trained, options["lr"])
    kind = getattr(torch.optim, name) if isinstance(name, str) else load(name)
    try:
        made = without_compiler(kind)(trained, **given)
    except Exception as error:  # torch raises several types for a bad value
        raise OptimizerError(f"optimizer '{title_of(name)}': {reason_of(error)}") from None
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


def _check_sparse(optimizer: Any, _args: object, _options: object) -> None:
    """Raise OptimizerError if a gradient is dense; this is unknown before the first step."""
    for group in optimizer.param_groups:
        if any(each.grad is not None and not each.grad.is_sparse for each in group["params"]):
            raise OptimizerError(
                "optimizer 'SparseAdam' needs sparse gradients, such as those of nn.Embedding(…, sparse=True). "
                "Try Adam"
            )


@lru_cache(maxsize=1)
def _classes() -> dict[str, Path]:
    """Return the file of each optimizer that torch.optim exports."""
    package = torch_file()
    found: dict[str, Path] = {}
    for node in ast.parse((package / "optim" / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            name = f"torch.optim.{node.module}" if node.level else node.module  # relative before torch 2.5
            file = package.parent.joinpath(*name.split(".")).with_suffix(".py")
            found |= {each.name: file for each in node.names if each.name[0].isupper() and file.is_file()}
    found.pop("Optimizer", None)
    return found


@lru_cache
def _options(name: str) -> TakenOptions:
    """Return the constructor's options with their annotations; "" for options without one."""
    return options_in(_classes()[name], name) or TakenOptions({"lr": "float"})
