"""The lists of names with their meaning, as modes, tasks and experiments print them."""

from __future__ import annotations

from gradlab.cli.output import print_json, stdout_console


def print_word_list(words: dict[str, str], kind: str, *, as_json: bool) -> None:
    """Print the names and what they mean, as a table or as one JSON document."""
    if as_json:
        print_json({kind: [{"name": name, "what": meaning} for name, meaning in words.items()]})
        return
    from gradlab.terminal.lists import word_list

    stdout_console().print(word_list(words))
