"""gradlab tasks: list the built-in tasks."""

from __future__ import annotations

from inspect import getdoc, signature

from gradlab.cli.app import app
from gradlab.cli.options import Json
from gradlab.cli.output import print_word_list


@app.command()
def tasks(json: Json = False) -> None:
    """List the built-in tasks and their options."""
    from gradlab.tasks import BUILT_IN

    words = {}
    for name, function in BUILT_IN.items():
        options = [f"{key}={each.default!r}" for key, each in signature(function).parameters.items() if key != "seed"]
        words[name] = f"{(getdoc(function) or '').splitlines()[0]} Options: {', '.join(options)}."
    words["FILE.py:NAME"] = "Your own function: def NAME(seed: int, ...) -> gradlab.Task. Also package.module:NAME."
    print_word_list(words, "tasks", as_json=json)
