"""Ten unrelated training scripts, written without knowledge of how `compare` works: are they compared as expected?

`unseen/expected.toml` says what must come out. Two scripts run here; all of them, in about half an hour:

python -m tests.comparison.test_unseen
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest

import gradlab

UNSEEN = Path(__file__).with_name("unseen")
EXPECTED: dict[str, dict[str, Any]] = tomllib.loads((UNSEEN / "expected.toml").read_text(encoding="utf-8"))
OURS = str(Path(gradlab.__file__).parents[1])


def compare(name: str, folder: Path) -> tuple[int, Any]:
    """Compare a script in this folder; return the exit status and the JSON document."""
    script = EXPECTED[name]["script"]
    copied = script.partition("/")[0]
    if (UNSEEN / copied).is_dir():
        shutil.copytree(UNSEEN / copied, folder, dirs_exist_ok=True)
        script = script.partition("/")[2]
    else:
        shutil.copy(UNSEEN / copied, folder)
    command = [sys.executable, "-m", "gradlab", "compare", "--json", script]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": OURS}, capture_output=True, text=True, check=False
    )
    return done.returncode, json.loads(done.stdout)


def faults(name: str, folder: Path) -> list[str]:
    """Return what is not as expected."""
    expected = EXPECTED[name]
    status, document = compare(name, folder)
    if expected["expected"] == "refused":
        message = document.get("error", {}).get("message", "")
        return [] if status == 2 and "LBFGS evaluates its closure" in message else [f"status {status}: {message}"]
    if status:
        return [f"status {status}: {document}"]
    written, *others = document["runs"]
    (zero,) = [run for run in others if run["mode"] == "zero_grad"]
    rows = [Path(folder, run["folder"], "metrics.jsonl").read_bytes() for run in (written, zero)]
    wrong = {
        f"measured {written['measured']}": (written["measured"]["mode"] or "").removesuffix(":fill")
        != expected["as_written"],
        f"{written['steps']} steps": written["steps"] != expected["backward_passes"],
        f"last line {written['last_line']}": not written["last_line"].startswith(expected["last_line"]),
        "zero_grad differs from as_written": rows[0] != rows[1],
        f"notes {document['notes']}": bool(document["notes"]) and not expected["counts_vary"],
    }
    wrong |= {f"{run['mode']} {run['imposed']}: {run['imposed_reason']}": run["imposed"] != "yes" for run in others}
    return [what for what, holds in wrong.items() if holds]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lbfgs_logistic", "pretrain_finetune"])
def test_unseen_scripts_are_compared_as_expected(name: str, folder: Path) -> None:
    assert faults(name, folder) == []


if __name__ == "__main__":
    missed = 0
    for each in EXPECTED:
        with tempfile.TemporaryDirectory() as scratch:
            found = faults(each, Path(scratch))
        print(f"{each}: {'; '.join(found) or 'as expected'}", flush=True)  # noqa: T201 - its result
        missed += bool(found)
    sys.exit(missed > 0)
