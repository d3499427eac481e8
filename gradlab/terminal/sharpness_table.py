"""Sharpness on a terminal: λ of every seed, and the largest stable lr of every mode."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from gradlab.terminal.fitted_table import fitted_table, literal_text, number_text

if TYPE_CHECKING:
    from gradlab.analysis.sharpness import LrBound, SharpnessReport


def sharpness_table(report: SharpnessReport, width: int) -> Group:
    """Return λ of every seed and their median, the largest stable lr of every mode, and notes."""
    seeds = Table(box=None, show_header=False)
    seeds.add_column()
    seeds.add_column(justify="right", no_wrap=True)
    for seed, found in report.seeds.items():
        seeds.add_row(Text(f"seed {seed}"), Text(number_text(found.eigenvalue)))
    if len(report.seeds) > 1:
        seeds.add_row(Text("median", "bold"), Text(number_text(report.eigenvalue), "bold"))
    shown = ["mode", "largest stable lr", "lr used"]
    lines = [
        {"mode": literal_text(each.mode), shown[1]: Text(_largest(each), "bold"), shown[2]: _lr_here(each)}
        for each in report.bounds
    ]
    table = fitted_table(shown, ["lr used"], lines, width, numbers=shown[1:])
    notes = [literal_text(note, "dim") for note in report.notes()]
    head = Text("λ, the largest eigenvalue of the Hessian at the initial weights", "bold")
    return Group(head, seeds, Text(""), table, *([Text("")] if notes else []), *notes)


def _largest(bound: LrBound) -> str:
    if bound.largest_stable_lr is None:
        return "unknown"
    return {0.0: "none", math.inf: "any"}.get(bound.largest_stable_lr, number_text(bound.largest_stable_lr))


def _lr_here(bound: LrBound) -> Text:
    above = bound.largest_stable_lr is not None and bound.lr >= bound.largest_stable_lr
    return Text(f"{bound.lr:g}", "red" if above else "")
