"""docs/ci.md: its workflows fit their schemas, and its commands show a finding at its line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from check_jsonschema import main as check_jsonschema
from ruamel.yaml import YAML
from typer.testing import CliRunner

from gradlab.audit.formats import FORMATS
from gradlab.cli import app
from tests.audit.reading import READERS
from tests.audit.training import NEVER_CLEARING, NEVER_CLEARING_LINES

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def texts_in(value: Any) -> Iterator[str]:
    """Yield all texts in a YAML document."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from texts_in(each)
    elif isinstance(value, str):
        yield value


COMMANDS = [
    (text, list(texts_in(YAML(typ="safe").load(block))))
    for block in BLOCKS
    for text in texts_in(YAML(typ="safe").load(block))
    if text.startswith("gradlab audit -")
]


def test_the_page_lists_every_format() -> None:
    table = PAGE.partition("## Formats\n\n")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `([a-z]+)`", table.partition("|---")[2], re.MULTILINE) == list(FORMATS)


@pytest.mark.parametrize(
    ("block", "schema"), [(0, "github-workflows"), (1, "github-workflows"), (2, "gitlab-ci")], ids=["0", "1", "2"]
)
def test_workflows_fit_the_schemas_of_their_servers(block: int, schema: str) -> None:
    Path("ci.yml").write_text(BLOCKS[block])
    command = ["--builtin-schema", f"vendor.{schema}", "ci.yml"]
    with pytest.raises(SystemExit) as end:
        check_jsonschema(command)
    assert end.value.code == 0
    Path("ci.yml").write_text(BLOCKS[block].replace("script:", "scirpt:").replace("steps:", "setps:"))
    with pytest.raises(SystemExit) as end:
        check_jsonschema(command)
    assert end.value.code == 1


def test_the_page_has_these_commands() -> None:
    formats = [word for text, _ in COMMANDS for word in text.split() if word in FORMATS]
    assert formats == ["github", "sarif", "gitlab", "junit", "concise"]


@pytest.mark.usefixtures("_main_restored")
@pytest.mark.parametrize(("text", "others"), COMMANDS, ids=[text for text, _ in COMMANDS])
def test_every_command_shows_a_finding_at_its_line(text: str, others: list[str], folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / "train.py").write_text(NEVER_CLEARING)
    words = shlex.split(text)[1:]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    written = done.stdout
    if "-o" in words:
        file = words[words.index("-o") + 1]
        assert file in others, "the file that is uploaded"
        written = Path(file).read_text()
    (found,) = READERS[words[words.index("--output-format") + 1]](written)
    assert found == ("train.py", NEVER_CLEARING_LINES[0], "error", "never-cleared")
