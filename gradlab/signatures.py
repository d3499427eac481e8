"""Options of functions and classes: read from a source file without importing it, and checked.

Importing torch takes more than a second, and importing a user's file runs it. So mistakes are found in the source.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from gradlab.annotations import misfit
from gradlab.errors import GradlabError, OptimizerError, nearest, unknown
from gradlab.wording import either

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

E = TypeVar("E", bound=GradlabError)
Definition = ast.ClassDef | ast.FunctionDef


class TakenOptions(NamedTuple):
    """The options that a function or a class's constructor takes.

    Attributes:
        annotations: the annotation of each option; "" without one.
        required: the options without a default.
        takes_any: whether it also takes options of other names.
    """

    annotations: dict[str, str]
    required: tuple[str, ...] = ()
    takes_any: bool = False

    def without(self, names: Collection[str]) -> TakenOptions:
        """Return the options except these."""
        kept = {name: each for name, each in self.annotations.items() if name not in names}
        return self._replace(annotations=kept, required=tuple(each for each in self.required if each not in names))


def spelled_alike(name: str, known: Iterable[str]) -> str:
    """Return the known name that is meant, or "". Case, `-` and `_` do not matter."""
    plain = _plain(name)
    return next((each for each in known if _plain(each) == plain), "")


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "").replace("_", "")


def torch_file(*parts: str) -> Path:
    """Return a source file of torch without importing torch.

    Raises:
        OptimizerError: torch is not installed.
    """
    torch = importlib.util.find_spec("torch")
    if torch is None or torch.origin is None:
        raise OptimizerError("torch is not installed: pip install torch")
    return Path(torch.origin).parent.joinpath(*parts)


def definitions_in(file: Path) -> dict[str, Definition]:
    """Return the classes and functions at the top level of a file; none if it cannot be read or parsed."""
    try:
        return _definitions(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError, RecursionError):
        return {}


@lru_cache(maxsize=64)
def _definitions(text: str) -> dict[str, Definition]:
    return {each.name: each for each in ast.parse(text).body if isinstance(each, Definition)}


def options_in(file: Path, name: str) -> TakenOptions | None:
    """Return the options of the function or class `name` after its first argument.

    None if the file does not show them: it imports the name, decorates it, or inherits the constructor from elsewhere.
    """
    found = definitions_in(file)
    seen: set[str] = set()
    while isinstance(each := found.get(name), ast.ClassDef) and name not in seen:
        seen.add(name)
        made = [one for one in each.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
        if made:
            return None if each.decorator_list else _options_of(made[-1], skipped=2)
        base = each.bases[0] if each.bases else None
        name = base.id if isinstance(base, ast.Name) else ""
    return _options_of(each, skipped=1) if isinstance(each, ast.FunctionDef) else None


def _options_of(function: ast.FunctionDef, skipped: int) -> TakenOptions | None:
    if function.decorator_list:
        return None
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    required = [each.arg for each in positional[skipped : len(positional) - len(given.defaults)]]
    required += [
        each.arg for each, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default is None
    ]
    options = [*positional[skipped:], *given.kwonlyargs]
    annotations = {each.arg: ast.unparse(each.annotation) if each.annotation else "" for each in options}
    return TakenOptions(annotations, tuple(required), given.kwarg is not None)


def options_of(function: Callable[..., object]) -> TakenOptions | None:
    """Return the options of an imported function or class after its first argument; None if it has no signature."""
    try:
        _, *options = inspect.signature(function).parameters.values()
    except ValueError:  # no signature, or no argument
        return None
    return options_among(options)


def options_among(parameters: Iterable[inspect.Parameter]) -> TakenOptions:
    """Return these parameters as options."""
    options = list(parameters)
    named = [each for each in options if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    return TakenOptions(
        {each.name: _annotation_text(each) for each in named},
        tuple(each.name for each in named if each.default is each.empty),
        any(each.kind is each.VAR_KEYWORD for each in options),
    )


def _annotation_text(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return ""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def option_faults(
    subject: str,
    taken: TakenOptions,
    options: Mapping[str, object],
    table: str,
    *,
    error: type[E] = OptimizerError,  # type: ignore[assignment]  # the default of E
    least: int | None = None,
) -> Iterator[tuple[str, E]]:
    """Yield each invalid or missing option with its error.

    Args:
        subject: what takes the options, in messages.
        taken: the options that it takes.
        options: the given options.
        table: the table of the experiment file that holds them.
        error: the type of the errors.
        least: the smallest value of integers.
    """
    meant = set()
    for option, value in options.items():
        if option not in taken.annotations:
            if not taken.takes_any:
                known = sorted(taken.annotations)
                meant.add(nearest(option, known))
                yield option, error(f"{subject}: {unknown('option', option, known)}")
        elif wrong := misfit(taken.annotations[option], value, least if taken.annotations[option] == "int" else None):
            yield option, error(f"{subject}: option {option} must be {wrong}")
    for option in taken.required:
        if option not in options and option not in meant:
            name = "" if table == "task_options" else "'name': …, "
            give = either(f"--set {table}.{option}=…", f"{table}={{{name}'{option}': …}}")
            yield option, error(f"{subject} needs the option {option}: {give}")
