"""Plain words: what people read has no odd phrase and no sentence that is too long."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import gradlab

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
PACKAGE = Path(gradlab.__file__).parent
MOST_WORDS = 30  # of a sentence; 25 is the aim

# Each with what to write instead.
PHRASES = {
    r"is told|are told|was told|were told|be told|told (?:of|that|by|in|when|where|after|as)": "is reported, is shown",
    r"tells|tell (?:of|how|whether|which|what)": "reports, shows, says",
    r"said to be|and said so": "with a notice, reported as",
    r"anew": "again",
    r"amid": "during",
    r"whoever": "anyone who; name the person",
    r"of one's own": "your own",
    r"so many": "the number",
    r"so too": "also",
    r"to be had": "available, supported",
    r"nothing to speak of": "almost nothing",
    r"go(?:es)? on(?! and off)|went on|gone on|going on": "continues, resumes",
    r"h(?:o|e)lds? against|held against|hold (?:\w+ )?against": "compares with",
    r"stands? beside": "is next to",
    r"at the most": "at most",
    r"now and then": "sometimes, every N seconds",
    r"what is (?:there|kept|left|told|known|said|done|asked)": "use a noun",
    r"there is no(?:ne|t)?\b": "no …",
    r"likewise": "also, the same",
    r"of which": "split the sentence",
    r"whatever|wherever|whenever": "any, where, when",
    r"nor is|nor are|nor do": "and not",
    r"by itself|by themselves": "alone",
    r"is as good as": "counts as",
    r"as if it were|as if it had": "like",
    r"lest": "so that … not",
    r"hence|thus|thereby|therein|whence|thence": "so",
}
ODD = [(re.compile(rf"\b(?:{phrase})\b", re.IGNORECASE), instead) for phrase, instead in PHRASES.items()]


class Passage(NamedTuple):
    """A paragraph, an item of a list, a cell of a table, a message or a comment."""

    file: Path
    line: int
    text: str

    @property
    def place(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}"


def passages_of_page(file: Path) -> Iterator[Passage]:
    return passages_of_text(file, file.read_text(encoding="utf-8"))


def passages_of_text(file: Path, text: str) -> Iterator[Passage]:
    """Yield the prose of a Markdown page, without code blocks."""
    text = re.sub(r"^(```+).*?^\1", lambda found: "\n" * found[0].count("\n"), text, flags=re.MULTILINE | re.DOTALL)
    begin, lines = 1, list[str]()
    for number, line in enumerate([*text.splitlines(), ""], 1):
        code = line.startswith("    ") and not re.match(r"\s+([*-]|\d+\.) ", line) and not lines
        starts = not line.strip() or code or re.match(r"\s*([*#|>-]|\d+\.)", line)
        if starts and lines:
            yield Passage(file, begin, " ".join(lines))
            lines = []
        if code or not line.strip():
            continue
        if line.startswith("|"):
            yield from (Passage(file, number, cell.strip()) for cell in line.strip("|").split("|"))
            continue
        begin = begin if lines else number
        lines.append(line.strip(" *#>-"))


def passages_of_module(file: Path) -> Iterator[Passage]:
    return passages_of_source(file, file.read_text(encoding="utf-8"))


def passages_of_source(file: Path, source: str) -> Iterator[Passage]:
    """Yield docstrings, comments and strings of a module; a string of several words counts as prose."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = [str(each.value) if isinstance(each, ast.Constant) else "X" for each in node.values]
            yield Passage(file, node.lineno, "".join(parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            for offset, paragraph in paragraphs(node.value):
                yield Passage(file, node.lineno + offset, paragraph)
    comments: list[tuple[int, str]] = []  # each with its first line; whole lines in a row are one
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not re.match(r"# (noqa|type:|fmt:|pragma)", token.string):
            line, text = token.start[0], token.string.lstrip("# ")
            whole = token.line.lstrip().startswith("#")
            if whole and comments and comments[-1][0] + comments[-1][1].count("\n") + 1 == line:
                comments[-1] = comments[-1][0], f"{comments[-1][1]}\n{text}"
            else:
                comments.append((line, text))
    yield from (Passage(file, line, text.replace("\n", " ")) for line, text in comments)


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Yield the paragraphs and items of a docstring, with the number of lines before each."""
    begin, lines = 0, list[str]()
    for number, line in enumerate([*text.splitlines(), ""]):
        item = re.match(r"\s*([*-] |\d+\. |\w+(, \w+)*: |>>> )", line)
        if (not line.strip() or item) and lines:
            yield begin, " ".join(lines)
            lines = []
        if line.strip():
            begin = begin if lines else number
            lines.append(line.strip(" *-"))


def sentences(text: str) -> list[str]:
    """Cut prose into sentences; code in backticks and links count as one word."""
    text = re.sub(r"`[^`]*`", "code", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.split(r"(?<=[.!?:])[)\"'*]*\s+|; (?=not when)|\n\n", text)


PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("experiments/*.md")]
MODULES = sorted(PACKAGE.rglob("*.py"))


def faults_of(passages: Iterator[Passage]) -> list[str]:
    found = []
    for passage in passages:
        prose = re.sub(r"`[^`]*`", "code", passage.text)
        found += [f"{passage.place}: '{match[0]}': {instead}" for odd, instead in ODD for match in odd.finditer(prose)]
        for sentence in sentences(passage.text):
            words = len(re.findall(r"\w[\w'’./-]*", sentence))
            if words > MOST_WORDS:
                found.append(f"{passage.place}: {words} words: {sentence[:60]}…")
    return found


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_pages_are_in_plain_words(file: Path) -> None:
    if faults := faults_of(passages_of_page(file)):
        pytest.fail("\n".join(faults), pytrace=False)


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_modules_are_in_plain_words(file: Path) -> None:
    if faults := faults_of(passages_of_module(file)):
        pytest.fail("\n".join(faults), pytrace=False)


def test_a_planted_phrase_is_reported_with_file_and_line() -> None:
    page, module = ROOT / "docs" / "planted.md", PACKAGE / "planted.py"
    text = "A run.\n\nIt is trained anew.\n" + " ".join(["word"] * 31) + ".\n"
    found = faults_of(passages_of_text(page, text))
    assert [each.partition(": ")[0] for each in found] == ["docs/planted.md:3", "docs/planted.md:3"]
    source = '"""A module."""\n# It stands\n# amid others.\nX = "so many"\n'
    found = faults_of(passages_of_source(module, source))
    assert [each.partition(":")[2].partition(":")[0] for each in found] == ["4", "2"]
