"""Options of functions and classes: read from a source file without importing it, and checked.

Importing torch takes more than a second, and importing a user's file runs it. So mistakes are found in the source.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from gradlab.errors import OptimizerError, nearest, shortened, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

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
    subject: str, taken: TakenOptions, options: Mapping[str, object], table: str
) -> Iterator[tuple[str, OptimizerError]]:
    """Yield each invalid or missing option with its error.

    Args:
        subject: what takes the options, in messages.
        taken: the options that it takes.
        options: the given options.
        table: the table of the experiment file that holds them.
    """
    meant = set()
    for option, value in options.items():
        if option not in taken.annotations:
            if not taken.takes_any:
                known = sorted(taken.annotations)
                meant.add(nearest(option, known))
                yield option, OptimizerError(f"{subject}: {unknown('option', option, known)}")
        elif (wanted := wanted_kind(taken.annotations[option], value)) is not None:
            got = shortened(json.dumps(value, ensure_ascii=False))
            yield option, OptimizerError(f"{subject}: option {option} must be {wanted}, got {got}")
    for option in taken.required:
        if option not in options and option not in meant:
            yield option, OptimizerError(f"{subject} needs the option {option}: --set {table}.{option}=…")


# For each annotation in torch's source: the words of the message, and the types that a TOML value may have.
_KINDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "bool": ("true or false", (bool,)),
    "float": ("a number", (int, float)),
    "int": ("an integer", (int,)),
    "str": ("a string", (str,)),
}
_TUPLE = re.compile(r"\b[Tt]uple\[(.*)\]")
_LIST = re.compile(r"(?:Optional\[)?(?:\w+\.)?(?:[Ll]ist|Iterable|Sequence)\[(.*)\]")
_CHOICES = re.compile(r"\bLiteral(\[.*?\])")


def wanted_kind(annotation: str, value: object) -> str | None:
    """Return the expected kind of value if `value` does not fit the annotation, else None.

    Annotations look like `float | Tensor` or `tuple[float, float]`. All others are left to the class or function.
    """
    if (found := _TUPLE.search(annotation)) is not None:
        return _wanted_tuple(found[1], value)
    if (found := _LIST.match(annotation)) is not None:
        fits = isinstance(value, list) and all(wanted_kind(found[1], each) is None for each in value)
        return None if fits or _is_unknown(found[1]) else f"a list of {_plural(found[1])}"
    if (found := _CHOICES.search(annotation)) is not None:
        return _wanted_choice(found[1], value)
    return None if _is_unknown(annotation) or _fits_any(annotation, value) else _words_for(annotation)


def _wanted_tuple(inner: str, value: object) -> str | None:
    length = len(re.sub(r"\[[^\[\]]*\]", "", inner).split(","))  # ignores commas in inner brackets
    fits = isinstance(value, list | tuple) and len(value) == length
    numbers = [each for each in cast("list[object]", value) if each is not None] if fits else []  # no None in TOML
    return None if fits and all(_fits("float", each) for each in numbers) else f"a list of {length} numbers"


def _wanted_choice(choices: str, value: object) -> str | None:
    try:
        known = [str(each) for each in ast.literal_eval(choices)]
    except (ValueError, SyntaxError):
        return None
    return None if value in known else " or ".join(known)


def _kinds_in(annotation: str) -> list[str]:
    return [each for each in _KINDS if re.search(rf"\b{each}\b", annotation)]


def _is_unknown(annotation: str) -> bool:
    return not _kinds_in(annotation)


def _fits_any(annotation: str, value: object) -> bool:
    return any(_fits(each, value) for each in _kinds_in(annotation))


def _fits(kind: str, value: Any) -> bool:
    return isinstance(value, _KINDS[kind][1]) and (kind == "bool" or not isinstance(value, bool))


def _words_for(annotation: str) -> str:
    kinds = _kinds_in(annotation)
    return " or ".join(_KINDS[each][0] for each in kinds if each != "int" or "float" not in kinds)


def _plural(annotation: str) -> str:
    nouns = {"bool": "true and false", "float": "numbers", "int": "integers", "str": "strings"}
    return next(nouns[each] for each in _kinds_in(annotation))
