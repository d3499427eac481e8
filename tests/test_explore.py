"""gradlab explore: one page, written where asked, over nothing else."""

from __future__ import annotations

import webbrowser
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner, Result

from gradlab.cli import app
from gradlab.pages import explore_page

if TYPE_CHECKING:
    from pathlib import Path


def explore(*words: str) -> Result:
    return CliRunner().invoke(app, ["explore", *words])


def test_the_page_is_written_and_its_name_printed(folder: Path) -> None:
    answer = explore()
    assert (answer.exit_code, answer.stdout, answer.stderr) == (0, "explore.html\n", "")
    assert (folder / "explore.html").read_text() == explore_page()


def test_a_page_of_gradlab_is_overwritten(folder: Path) -> None:
    (folder / "mine.html").write_text(explore_page().replace("zero_grad", "other"))
    assert explore("-o", "mine.html").exit_code == 0
    assert (folder / "mine.html").read_text() == explore_page()


@pytest.mark.parametrize("content", ["", "<!DOCTYPE html><p>mine</p>", "x" * 5000 + "gradlab"])
def test_another_file_is_not_overwritten(content: str, folder: Path) -> None:
    (folder / "mine.html").write_text(content)
    answer = explore("-o", "mine.html")
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert answer.stderr == (
        "mine.html exists and is not a page that gradlab wrote; choose another name, or delete it\n"
    )
    assert (folder / "mine.html").read_text() == content


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nosuch/page.html", "nosuch/page.html cannot be written: no such folder"),
        (".", ". is not a regular file"),
        ("link.html", "link.html is a symbolic link, which gradlab does not follow"),
    ],
)
def test_a_place_that_cannot_be_written_is_reported(name: str, message: str, folder: Path) -> None:
    (folder / "link.html").symlink_to(folder / "elsewhere.html")
    answer = explore("-o", name)
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert message in answer.stderr


def test_open_shows_the_page_in_a_browser(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def open_address(address: str) -> bool:
        opened.append(address)
        return True

    monkeypatch.setattr(webbrowser, "open", open_address)
    answer = explore("-o", "a page.html", "--open")
    assert (answer.exit_code, answer.stdout, answer.stderr) == (0, "a page.html\n", "")
    assert opened == [(folder / "a page.html").as_uri()]


def test_open_without_a_browser_says_which_file_to_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    answer = explore("--open")
    assert (answer.exit_code, answer.stdout) == (0, "explore.html\n")
    assert answer.stderr == "No browser found. Open explore.html in one.\n"
