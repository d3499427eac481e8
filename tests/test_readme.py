"""What the README shows is true: every command runs, the tree is the tree, the links lead somewhere."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gradlab.cli import app
from gradlab.modes import parse

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    lines = [line.partition("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line]


def test_every_gradlab_command_of_the_readme_runs_in_its_order(folder: Path) -> None:
    (source,) = blocks("python")
    name = source.splitlines()[0].removeprefix("# ")
    (folder / name).write_text(source)
    ours = [line for line in commands() if line.startswith("gradlab ")]
    assert len(ours) > 10
    for line in ours:
        command, _, target = line.partition(" > ")
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}"
        if target:
            (folder / target).write_text(result.stdout)
    assert (folder / "mine.png").stat().st_size > 10_000
    assert (folder / "mine.svg").read_text().startswith("<?xml")
    sys.modules.pop("mine", None)


def test_what_the_readme_shows_of_run_is_what_run_prints() -> None:
    (shown,) = [block for block in blocks("text") if "model training loss" in block]
    printed = CliRunner().invoke(app, ["run"]).stdout
    assert len(shown.split()) == len(printed.split())
    for told, got in zip(shown.split(), printed.split(), strict=True):
        assert told == got or float(told) == pytest.approx(float(got), rel=0.01)  # the best loss of CPUs differs


def test_every_make_target_of_the_readme_is_in_the_makefile() -> None:
    named = set(re.findall(r"\bmake ([a-z]+)\b", " ".join(commands())) + re.findall(r"`make ([a-z]+)`", README))
    assert {"run", "test", "check", "smoke", "bench", "clean"} <= named
    assert named <= TARGETS


def test_every_test_that_contributing_names_is_there() -> None:
    named = re.findall(r"(tests/[\w/]+\.py)::(\w+)", CONTRIBUTING)
    assert named
    assert [each for each in named if f"def {each[1]}(" not in (ROOT / each[0]).read_text(encoding="utf-8")] == []


def test_every_make_target_of_contributing_is_in_the_makefile() -> None:
    named = re.findall(r"(?:^|`)make ([a-z]+)\b", CONTRIBUTING, re.MULTILINE)
    assert {"test", "lint", "check"} <= set(named)
    assert set(named) <= TARGETS


def test_the_readme_names_every_module_and_no_other() -> None:
    (tree,) = [block for block in blocks("text") if "modes.py" in block]
    inside = tree.split("gradlab/\n")[1].split("\nexperiments/")[0]
    named = {line.split()[0].rstrip("/") for line in inside.splitlines()}
    there = {
        path.name
        for path in (ROOT / "gradlab").iterdir()
        if (path.suffix == ".py" and path.name != "__init__.py") or (path.is_dir() and (path / "__init__.py").exists())
    }
    assert named == there


def test_the_readme_names_every_document_and_no_other() -> None:
    (named,) = re.findall(r"^docs/ +(.*)$", README, re.MULTILINE)
    assert named.split(", ") == sorted(path.stem for path in (ROOT / "docs").glob("*.md"))


def test_every_local_link_of_the_documents_leads_to_a_file() -> None:
    links = [
        document.parent / target
        for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("experiments/*.md")]
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8"))
    ]
    assert ROOT / "docs" / "audit.md" in links
    assert [link for link in links if not link.exists()] == []


def test_every_mode_of_the_readme_has_its_keep_and_every() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| ([\d./]+) \| (\d+) \|", README, re.MULTILINE)
    assert len(rows) == 7
    for word, keep, every in rows:
        top, _, bottom = keep.partition("/")
        assert (parse(word).keep, parse(word).every) == (float(top) / float(bottom or 1), int(every))


def test_every_experiment_has_a_row_in_its_readme() -> None:
    text = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")
    names = [file.stem for file in (ROOT / "experiments").glob("*.toml")]
    assert "straight_line" in names
    assert [name for name in names if f"`{name}`" not in text] == []
