"""What a terminal of a given width shows."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from rich.console import RenderableType

MODES = ["zero_grad", "zero_grad:fill", "no_zero_grad", "halve_grad", "decay:0.9", "accumulate:4:sum",
         "keep=-0.123456,every=12:sum"]  # fmt: skip
WIDTHS = [120, 80, 60, 40]


def shown(what: RenderableType, width: int = 80, *, colour: bool = False) -> list[str]:
    """Return the lines that a console of `width` columns shows."""
    console = Console(
        width=width, file=StringIO(), force_terminal=colour, color_system="truecolor" if colour else None
    )
    console.print(what)
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]
