"""The page of `gradlab explore`: what happens to `.grad` between two steps, to play with."""

from __future__ import annotations

from gradlab.pages.assembling import SOURCES, HtmlPage, bundle, html_of


def explore_page() -> str:
    """Return the page as one HTML file of at most 150 kB."""
    folder = SOURCES / "explore"
    styles = [SOURCES / "shared" / "base.css", folder / "style.css"]
    return html_of(
        HtmlPage(
            title="Why zero_grad()?",
            body=(folder / "page.html").read_text(encoding="utf-8"),
            styles=[file.read_text(encoding="utf-8") for file in styles],
            script=bundle(folder / "main.js"),
        )
    )
