"""Help: commands in panels, in the order people need them, wrapped to the width of the terminal."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

PANELS = {
    "Train and draw": ["run", "compare", "plot", "sweep"],
    "Read results": ["list", "show", "export"],
    "Check": ["audit", "verify", "sharpness"],
    "Reference": ["modes", "tasks", "experiments", "explore"],
}
WIDTH = 80  # columns at most
NARROW = 60  # columns below which help goes under the name of an option


class HelpFormatter(typer.Context.formatter_class):  # type: ignore[misc, valid-type]  # Typer carries its own Click
    """The lines of help; unlike Click's own, they fit a narrow terminal too."""

    def __init__(self, **_limits: Any) -> None:
        self.columns = min(shutil.get_terminal_size().columns, WIDTH)
        super().__init__(width=self.columns)

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write the usage line, without Typer's braces around what is required."""
        super().write_usage(prog, re.sub(r"[{}]", "", args), prefix)

    def write_dl(self, rows: Any, col_max: int = 30, col_spacing: int = 2) -> None:
        """Write names with their help beside them, or below them on a narrow terminal."""
        is_narrow = self.columns < NARROW
        named = [(re.sub(r" <.*>$", "", name.rstrip() if is_narrow else name), text) for name, text in rows]
        super().write_dl(named, 2 if is_narrow else col_max, col_spacing)


class HelpContext(typer.Context):
    """The context of a command, with our formatter."""

    formatter_class = HelpFormatter


def write_commands(commands: Mapping[str, Any], formatter: Any) -> None:
    """Write the commands with their help, panel by panel."""
    width = max(map(len, commands))
    for panel, names in PANELS.items():
        with formatter.section(panel):
            formatter.write_dl([(name.ljust(width), commands[name].help) for name in names])
