"""What the README shows is true: every command runs, the tree is the tree, the links lead somewhere."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import webbrowser
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


def test_every_gradlab_command_of_the_readme_runs_in_its_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda _: True)
    (source,) = blocks("python")
    name = source.splitlines()[0].removeprefix("# ")
    (folder / name).write_text(source)
    ours = [line for line in commands() if line.startswith("gradlab ")]
    assert len(ours) > 10
    (folder / "experiments").mkdir()
    shutil.copy(ROOT / "experiments" / "train_digits.py", folder / "experiments")
    for line in ours:
        command, _, target = line.partition(" > ")
        command = command.replace(" compare ", " compare --max-steps 3 -m zero_grad ")  # every run takes seconds
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}"
        if target:
            (folder / target).write_text(result.stdout)
    assert (folder / "mine.png").stat().st_size > 10_000
    assert (folder / "mine.svg").read_text().startswith("<?xml")
    sys.modules.pop("mine", None)


def test_the_losses_and_the_table_of_run_are_those_it_prints() -> None:
    (table,) = [block for block in blocks("text") if "last epoch" in block]
    printed = CliRunner().invoke(app, ["run"]).stdout
    shown, got = table.split(), printed[printed.index(" mode ") :].split()
    assert len(shown) == len(got)
    for one, other in zip(shown, got, strict=True):
        assert one == other or float(one) == pytest.approx(float(other), rel=0.01)  # the best loss of CPUs differs
    without, clearing = re.findall(r"(?:\d\.\d, ){4}\d\.\d", README)
    epochs = re.findall(r"model training loss is (\d\.\d)", printed)
    assert (clearing.split(", "), without.split(", ")) == (epochs[:5], epochs[5:10])


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 180


def test_every_make_target_of_the_readme_is_in_the_makefile() -> None:
    named = set(re.findall(r"\bmake ([a-z]+)\b", " ".join(commands())) + re.findall(r"`make ([a-z]+)`", README))
    assert {"run", "test", "check", "smoke"} <= named
    assert named <= TARGETS


def test_every_test_that_contributing_names_is_there() -> None:
    named = re.findall(r"(tests/[\w/]+\.py)::(\w+)", CONTRIBUTING)
    assert named
    assert [each for each in named if f"def {each[1]}(" not in (ROOT / each[0]).read_text(encoding="utf-8")] == []


def test_every_make_target_of_contributing_is_in_the_makefile() -> None:
    named = re.findall(r"(?:^|`)make ([a-z]+)\b", CONTRIBUTING, re.MULTILINE)
    assert {"test", "lint", "check"} <= set(named)
    assert set(named) <= TARGETS


def test_every_path_of_the_readmes_tree_exists() -> None:
    (tree,) = [block for block in blocks("text") if "modes.py" in block]
    above, inside = tree.split("\n", 1)
    lines = [re.match(r"( *)(\S+/|\S+\.py)((?:, \S+/)*)  ", line) for line in inside.splitlines()]
    assert all(lines)
    named = [
        ROOT / (above if each[1] else "") / path for each in lines if each for path in each[0].strip().split(", ")
    ]
    assert len(named) > 12
    assert [path for path in named if not path.exists()] == []


def test_the_index_of_docs_lists_every_page_and_no_other() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| \[([\w-]+\.md)\]\(\1\) \|", index, re.MULTILINE)
    assert sorted(named) == sorted({page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"})


def test_every_local_link_of_the_documents_leads_to_a_file() -> None:
    links = [
        document.parent / target
        for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("experiments/*.md")]
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8"))
    ]
    assert ROOT / "docs" / "audit.md" in links
    assert [link for link in links if not link.exists()] == []


def test_every_mode_of_the_readme_has_its_keep_and_every() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| ([\d./]+) \| (\d+) \|", README, re.MULTILINE)
    assert len(rows) == 6
    for word, keep, every in rows:
        top, _, bottom = keep.partition("/")
        assert (parse(word).keep, parse(word).every) == (float(top) / float(bottom or 1), int(every))


def test_every_experiment_has_a_row_in_its_readme() -> None:
    text = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")
    names = [file.stem for file in (ROOT / "experiments").glob("*.toml")]
    assert "straight_line" in names
    assert [name for name in [*names, "train_digits"] if f"`{name}`" not in text] == []
