"""Help: commands in panels, a default for every option, lines that fit the terminal."""

from __future__ import annotations

import re

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from gradlab.cli import app
from gradlab.cli.help import PANELS

COMMANDS = [name for names in PANELS.values() for name in names]
WITHOUT_DEFAULT = {"set"}


def help_of(*words: str, columns: int = 80) -> str:
    answer = CliRunner().invoke(app, [*words, "--help"], prog_name="gradlab", env={"COLUMNS": str(columns)})
    assert (answer.exit_code, answer.stderr) == (0, "")
    return answer.stdout


def test_commands_are_listed_in_panels_in_their_order() -> None:
    text = help_of()
    assert COMMANDS[:4] == ["run", "compare", "plot", "sweep"]
    assert re.findall(r"^  ([a-z]+) {2,}", text, re.MULTILINE) == COMMANDS
    assert re.findall(r"^(\w.*):$", text, re.MULTILINE) == ["Options", *PANELS]


@pytest.mark.parametrize("words", [[], *([command] for command in COMMANDS)])
def test_h_is_short_for_help(words: list[str]) -> None:
    short = CliRunner().invoke(app, [*words, "-h"], prog_name="gradlab")
    assert short.stdout == CliRunner().invoke(app, [*words, "--help"], prog_name="gradlab").stdout
    assert short.stdout.startswith(" ".join(["Usage: gradlab", *words]))


@pytest.mark.parametrize("columns", [120, 80, 60, 40])
@pytest.mark.parametrize("words", [[], *([command] for command in COMMANDS)])
def test_help_fits_the_terminal_and_cuts_nothing_off(words: list[str], columns: int) -> None:
    text = help_of(*words, columns=columns)
    assert max(map(cell_len, text.splitlines())) <= min(columns, 80)
    assert not re.search(r"…|\.\.\.(?!$|\])", text, re.MULTILINE)
    assert sorted(text.split()) == sorted(help_of(*words).split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_with_a_value_has_its_default(command: str) -> None:
    options = help_of(command).partition("Options:")[2]
    found = re.findall(r"^  (?:-\w, )?--([a-z-]+)( [A-Z=]+)?(.*(?:\n {4,}.*)*)", options, re.MULTILINE)
    assert ("help", "", "") in [(name, value, "") for name, value, _ in found]
    assert [name for name, value, text in found if value and "Default:" not in text] == [
        name for name, value, _ in found if value and name in WITHOUT_DEFAULT
    ]


SHARED = "mode task optimizer lr steps epochs batch-size seed"


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("run", f"{SHARED} seeds set engine device out plot no-plot fresh json quiet"),
        ("sweep", f"vary {SHARED} seeds set engine device workers dask out plot fresh json quiet"),
        ("sharpness", "mode task batch-size seed set json"),
    ],
)
def test_shared_options_are_listed_among_the_commands_own(command: str, names: str) -> None:
    assert re.findall(r"^  (?:-\w, )?--([a-z-]+)", help_of(command), re.MULTILINE) == [*names.split(), "help"]
