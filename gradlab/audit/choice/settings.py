"""Settings of the audit in `[tool.gradlab.audit]` of a pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_type_hints

from gradlab.audit.choice.rules import choose, faults_of_both, faults_of_ids
from gradlab.errors import AuditError, nearest, raise_together, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

TABLE = "tool.gradlab.audit"


def _list_of_ids(value: object) -> Iterator[str]:
    if isinstance(value, list):
        yield from faults_of_ids(value)
    else:
        yield f"must be a list of ids, got {shortened(repr(value))}"


def _positive_integer(value: object) -> Iterator[str]:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        yield f"must be an integer of at least 1, got {shortened(repr(value))}"


class AuditSettings(NamedTuple):
    """The table's keys: options of `gradlab audit`, with _ for -. Each is annotated with the check of its value."""

    select: Annotated[tuple[str, ...], _list_of_ids] = ()
    ignore: Annotated[tuple[str, ...], _list_of_ids] = ()
    sample: Annotated[int | None, _positive_integer] = None

    def rules(self) -> frozenset[str]:
        """Return the ids of the chosen rules."""
        return choose(self.select, self.ignore)


def settings_for(folder: Path) -> AuditSettings:
    """Return the settings in the nearest pyproject.toml with a table `tool.gradlab`, in this folder or above it.

    Without such a file, return the defaults.

    Raises:
        AuditError: a pyproject.toml on the way cannot be read, or its table has mistakes; the message has all of them.
    """
    for parent in (folder, *folder.parents):
        file = parent / "pyproject.toml"
        if (text := _text_of(file)) is not None and (ours := _own_table(file, text)) is not None:
            return _checked(ours, file, text)
    return AuditSettings()


def _text_of(file: Path) -> str | None:
    """Return the text of a file, or None if it does not exist or does not mention gradlab."""
    try:
        content = file.read_bytes()
        if b"gradlab" not in content:  # it may be no text, and no TOML: then it is none of our concern
            return None
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise AuditError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise AuditError(f"{file} is not UTF-8 text: byte {error.start} is {error.object[error.start]:#x}") from None


def _own_table(file: Path, text: str) -> object:
    """Return the value of `tool.gradlab`, or None if the file has none."""
    try:
        tools = tomllib.loads(text).get("tool")
    except (ValueError, RecursionError) as error:
        raise AuditError(f"{file} is not TOML: {shortened(error, 200)}") from None
    return tools.get("gradlab") if isinstance(tools, dict) else None


def _checked(ours: object, file: Path, text: str) -> AuditSettings:
    if not isinstance(ours, dict):
        raise AuditError(f"{file}: tool.gradlab must be a table, got {shortened(repr(ours))}")
    table = ours.get("audit", {})
    wrong = [("", f"unknown key 'tool.gradlab.{shortened(name)}'{_guess(name, ['audit'])}") for name in ours]
    wrong = [each for name, each in zip(ours, wrong, strict=True) if name != "audit"]
    if not isinstance(table, dict):
        wrong.append(("", f"{TABLE} must be a table, got {shortened(repr(table))}"))
        table = {}
    values: dict[str, Any] = {}
    hints = get_type_hints(AuditSettings, include_extras=True)
    for name, value in table.items():
        plain = name.replace("-", "_")
        if plain not in hints:
            wrong.append((name, f"unknown key '{TABLE}.{shortened(name)}'{_guess(plain, hints)}"))
            continue
        (check,) = hints[plain].__metadata__
        faults = list(check(value))
        wrong += [(name, f"{TABLE}.{name}: {each}") for each in faults]
        if not faults:
            values[plain] = tuple(value) if isinstance(value, list) else value
    both = faults_of_both(values.get("select", ()), values.get("ignore", ()))
    wrong += [("ignore", f"{TABLE}.ignore: {each}") for each in both]
    errors = [AuditError(f"{file}{_line_of(text, name)}: {each}") for name, each in wrong]
    raise_together(errors, AuditError)
    return AuditSettings(**values)


def _guess(name: str, known: Iterable[str]) -> str:
    names = [each.replace("_", "-") for each in known]
    near = nearest(name.replace("_", "-"), names)
    return f"; did you mean '{near}'?" if near else f". Known: {', '.join(names)}"


def _line_of(text: str, key: str) -> str:
    """Return ":LINE" of a key, if the table is spelled `[tool.gradlab.audit]`, else ""."""
    within = False
    for number, line in enumerate(text.split("\n"), 1):
        if line.lstrip().startswith("["):
            within = re.match(rf"\s*\[\s*{re.escape(TABLE)}\s*\]", line) is not None
        elif key and within and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
            return f":{number}"
    return ""
