"""Shell completion: names of modes, tasks, experiments and rules, without importing torch."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from gradlab.audit.rule_pages import ids
from gradlab.cli import app
from gradlab.experiment import shipped
from gradlab.modes import parse
from gradlab.tasks import BUILT_IN

if TYPE_CHECKING:
    from pathlib import Path

CLIPPED_BEFORE = ["clipped-before-backward", "clipped-before-unscale"]


def environment(line: str, shell: str = "bash") -> dict[str, str]:
    """Return the variables with which the shell asks to complete the last word of the line."""
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_TYPER_COMPLETE_ARGS": line}
    return asked | {"_GRADLAB_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}


def completed(line: str, shell: str = "bash") -> list[str]:
    answer = CliRunner().invoke(app, [], prog_name="gradlab", env=environment(line, shell))
    assert (answer.exit_code, answer.stderr) == (0, "")
    return answer.stdout.splitlines()


def test_a_rule_is_completed_with_what_it_finds() -> None:
    lines = completed("gradlab audit --explain ", "fish")
    assert [line.split("\t")[0] for line in lines] == ids()
    assert "graph-kept\tlines whose graphs stay alive, so that memory grows with …" in lines


def test_modes_complete_to_names_that_parse() -> None:
    names = completed("gradlab run -m ")
    assert [parse(name).name for name in names] == names
    assert {"zero_grad", "decay:0.9", "accumulate:4"} <= set(names)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("gradlab run --mode no", ["no_zero_grad"]),
        ("gradlab compare -m no", ["no_zero_grad"]),
        ("gradlab run --task no", ["noisy_line"]),
        ("gradlab sharpness --task ", list(BUILT_IN)),
        ("gradlab run phase_f", ["phase_full_batch"]),
        ("gradlab sweep ", list(shipped())),
        ("gradlab experiments smo", ["smoke"]),
        ("gradlab audit --explain clipped-", ["clipped-at-every-micro-batch", *CLIPPED_BEFORE]),
        ("gradlab audit --explain never-cleared --sa", ["--sample"]),
        ("gradlab sw", ["sweep"]),
        ("gradlab run --ba", ["--batch-size"]),
    ],
)
def test_a_prefix_completes_to_known_names(line: str, names: list[str]) -> None:
    assert completed(line) == names


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_show_the_meaning_of_a_mode(shell: str) -> None:
    (line,) = completed("gradlab run -m no_", shell)
    assert "no_zero_grad" in line
    assert "never cleared" in line


SEEN = """
import sys
from gradlab.cli import main
try:
    main([], prog_name="gradlab")
finally:
    assert not {"torch", "numpy", "rich"} & set(sys.modules)
"""


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("run -m ", "zero_grad"),
        ("run --task ", "noisy_line"),
        ("run ", "smoke"),
        ("audit --explain ", "graph-kept"),
    ],
)
def test_completion_imports_no_torch(words: str, name: str) -> None:
    env = os.environ | environment(f"gradlab {words}")
    done = subprocess.run([sys.executable, "-c", SEEN], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert name in done.stdout.split()


@pytest.fixture
def _bash(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Typer detect bash, with its files in the current folder."""
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    monkeypatch.setenv("HOME", str(folder))


@pytest.mark.usefixtures("_bash")
def test_completion_can_be_shown_and_installed(folder: Path) -> None:
    shown = CliRunner().invoke(app, ["--show-completion"], prog_name="gradlab")
    assert "complete -o default -F _gradlab_completion gradlab" in shown.stdout
    assert CliRunner().invoke(app, ["--install-completion"], prog_name="gradlab").exit_code == 0
    assert (folder / ".bash_completions" / "gradlab.sh").read_text().strip() == shown.stdout.strip()
    assert "gradlab.sh" in (folder / ".bashrc").read_text()
