"""What a comparison of a user's script found, in lines: its mode as written, and modes that were not imposed."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.table import Table

from gradlab.modes import AS_WRITTEN
from gradlab.terminal.fitted_table import literal_text
from gradlab.terminal.run_table import final_loss, final_name, imposed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradlab.analysis.results import Result

FIX = "zero_grad"  # the mode of a script without the mistake


def as_written_line(results: Sequence[Result]) -> str:
    """Return what the script does as measured, and what clearing would bring."""
    written = [each for each in results if each.mode == AS_WRITTEN]
    optimizers = written[0].compared.get("optimizers") if written else None
    if not isinstance(optimizers, list) or not optimizers:
        return ""
    line = f"as written: {_measured(optimizers)}"
    if all(each.get("keep") == 0 and each.get("mode") for each in optimizers):
        return f"{line}, nothing to fix."
    fixed = [each for each in results if each.mode == FIX]
    if not fixed or imposed(fixed) == "no":
        return f"{line}."
    final = final_name(results)
    seeds = set[int].intersection(
        *({each.seed for each in runs if each.status == "done"} for runs in (fixed, written))
    )
    losses = [final_loss([each for each in runs if each.seed in seeds], final) for runs in (fixed, written)]
    if losses[0] is None or losses[1] is None:
        return f"{line}."
    repeat = written[0].compared.get("repeat") or {}
    spread = f" (a second run differs by {repeat['spread']:.2g})" if repeat.get("differs_from") is not None else ""
    what = "last epoch's loss" if final == "last epoch" else "loss of the last tenth of the steps"
    return f"{line}. With {FIX} the {what} is {losses[0]:.3g} instead of {losses[1]:.3g}{spread}."


def imposed_lines(results: Sequence[Result]) -> Iterator[str]:
    """Yield for each mode that was not imposed on every update, on which share it was, and why; and remarks."""
    for mode, group in groupby((each for each in results if each.rows), key=lambda result: result.mode):
        runs = list(group)
        reasons = dict.fromkeys(str(reason) for run in runs if (reason := run.compared.get("imposed_reason")))
        if (how := imposed(runs)) == "yes" and not reasons:
            continue
        share = min(float(run.compared.get("imposed_share", 0.0)) for run in runs)
        counts = {"yes": "", "no": f" was not imposed; it holds at {100 * share:.3g} % of the updates"}
        at = f" at {100 * share:.3g} % of the updates" if share < 1 else " approximately"
        yield f"{mode}{counts.get(how, f' was imposed{at}')}: {'; '.join(reasons)}"


def last_lines(results: Sequence[Result]) -> Table | None:
    """Return a table of the last line that every run printed, None if no run printed any."""
    if not any(each.compared.get("last_line") for each in results):
        return None
    several = len({each.seed for each in results}) > 1
    table = Table(box=None, show_header=False)
    table.title, table.title_justify = literal_text("last line printed", "table.title"), "left"
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in results:
        if not each.compared.get("last_line"):
            continue
        name = f"{each.mode} {each.seed}" if several else each.mode
        table.add_row(literal_text(name), literal_text(str(each.compared["last_line"])))
    return table


def _measured(optimizers: list[dict[str, Any]]) -> str:
    """Return the mode and keep of the script, for every optimizer if they differ."""
    found = [_one(each) for each in optimizers]
    if len(set(found)) == 1:
        return found[0]
    kinds = [each.get("class") for each in optimizers]
    names = [f"{kind} {nth}" if kinds.count(kind) > 1 else str(kind) for nth, kind in enumerate(kinds, 1)]
    return "; ".join(f"{name} {one}" for name, one in zip(names, found, strict=True))


def _one(optimizer: dict[str, Any]) -> str:
    mode, keep = optimizer.get("mode"), optimizer.get("keep")
    if not isinstance(keep, int | float):
        return "keep not measured"
    return f"{mode} (keep {keep:.3g})" if mode else f"no single mode (keep {keep:.3g} in the median)"
