"""gradlab modes: list the modes."""

from __future__ import annotations

from gradlab.cli.app import app
from gradlab.cli.options import Json
from gradlab.cli.output import print_word_list


@app.command()
def modes(json: Json = False) -> None:
    """List the modes: what can happen to .grad between two optimizer steps."""
    from gradlab.modes import WORDS

    print_word_list(WORDS, "modes", as_json=json)
