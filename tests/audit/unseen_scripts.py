"""How the audit does on scripts that were written before it was changed, from docs/audit.md alone.

    python -m tests.audit.unseen_scripts

audits every script of tests/audit/unseen at the default and with --sample 1, and compares the errors and warnings
with expected.toml: a faulty script is found if one of its ids is reported, and a right one is silent.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parent / "unseen"


def reported_ids(script: Path, *options: str) -> list[str]:
    """Return the ids of the errors and warnings that an audit of the script reports."""
    command = [sys.executable, "-m", "gradlab", "audit", "--json", *options, script.name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=script.parent)
    document: dict[str, Any] = json.loads(done.stdout)
    return [each["id"] for each in document["findings"] if each["severity"] != "note"]


def judgement(expected: dict[str, Any], ids: list[str]) -> str:
    """Return found, other finding or missed for a faulty script, silent or false alarm for a right one."""
    if expected["kind"] == "right":
        return "false alarm" if ids else "silent"
    wanted = set(expected["ids"]) or set(ids)  # empty if no rule existed when the script was written
    return "found" if set(ids) & wanted else "other finding" if ids else "missed"


def main() -> None:
    """Print a line for every script, and the counts."""
    table = tomllib.loads((SCRIPTS / "expected.toml").read_text(encoding="utf-8"))
    for options in ([], ["--sample", "1"]):
        counts: dict[str, int] = {}
        for name, expected in table.items():
            ids = reported_ids(SCRIPTS / f"{name}.py", *options)
            said = judgement(expected, ids)
            counts[said] = counts.get(said, 0) + 1
            print(f"{' '.join(options) or 'default'}: {name}: {said} {', '.join(ids)}")  # noqa: T201 - its purpose
        print(f"{' '.join(options) or 'default'}: {counts}")  # noqa: T201


if __name__ == "__main__":
    main()
