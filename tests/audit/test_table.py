"""The table of scripts in docs/audit.md is what the audit finds in them.

python -m tests.audit.test_table        runs them and writes the table anew
"""

from __future__ import annotations

import ast
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.audit.test_scripts import NEED, RIGHT, SCRIPTS, watched

DOCUMENT = Path(__file__).parents[2] / "docs" / "audit.md"
HEAD = "| script | what it is | found | false alarms |\n|---|---|---|---|\n"


def expected(name: str) -> str | None:
    """Return the id of what is to be found in a script."""
    return None if name in RIGHT else name.partition("_")[2].partition(".")[0]


def found_in(name: str) -> list[str]:
    """Return the ids of what is found in a script, by default and with each update measured."""
    return [each.id for sample in (None, 1) for each in watched(SCRIPTS[name], sample).findings]


def row(name: str, found: list[str]) -> str:
    """Return the line of the table of a script."""
    what = (ast.get_docstring(ast.parse(SCRIPTS[name].read_text(encoding="utf-8"))) or "").rstrip(".")
    wanted = expected(name)
    true = f"`{wanted}`" if wanted in found else "nothing"
    return f"| `{name}` | {what} | {true} | {sum(each != wanted for each in found)} |\n"


def summary(found: dict[str, list[str]]) -> str:
    """Return the sentence that counts the table up."""
    alarms = {name: ids for name, ids in found.items() if expected(name)}
    true = sum(expected(name) in ids for name, ids in alarms.items())
    false = sum(each != expected(name) for name, ids in found.items() for each in ids)
    return (
        f"In {true} of {len(alarms)} scripts that are faulty or worth a note it is found; "
        f"{len(found) - len(alarms)} are right; {false} false alarms.\n"
    )


def table(found: dict[str, list[str]]) -> str:
    """Return the table and the sentence that counts it up."""
    return HEAD + "".join(row(name, ids) for name, ids in found.items()) + "\n" + summary(found)


@pytest.mark.xdist_group("audit scripts")
@pytest.mark.filterwarnings("ignore")
def test_the_table_of_scripts_is_what_is_found_in_them() -> None:
    missing = {name for name, need in NEED.items() if find_spec(need) is None}  # their lines are taken on trust
    found = {name: [] if name in missing else found_in(name) for name in sorted(SCRIPTS)}
    assert table(found) in DOCUMENT.read_text(encoding="utf-8"), "write it anew: python -m tests.audit.test_table"


def main() -> None:
    """Run all scripts, and write the table into the document."""
    os.chdir(tempfile.mkdtemp())
    text = DOCUMENT.read_text(encoding="utf-8")
    before, after = text.index("| script |"), text.index("\n## Manners")
    found = {name: found_in(name) for name in sorted(SCRIPTS)}
    DOCUMENT.write_text(text[:before] + table(found) + text[after:], encoding="utf-8")


if __name__ == "__main__":
    main()
