"""Results of runs on a terminal: a table of losses and verdicts, epoch means, failed expectations."""

from __future__ import annotations

import math
from collections import Counter
from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING

from rich.text import Text

from gradlab.analysis import curves
from gradlab.analysis.intervals import paired_difference
from gradlab.terminal.fitted_table import coloured, fitted_table, literal_text, needed_width, number_text
from gradlab.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.table import Table

    from gradlab.analysis.results import Checked, Result
    from gradlab.rows import Row

DIFFERENCE = "− {mode}: {final} loss minus {mode}'s, paired by seed (n={seeds}), ±95 % CI; * if the CI excludes 0"
LAST_EPOCH, LAST_TENTH = "last epoch", "last tenth"  # of the steps, of a user's script without epochs
IMPOSED = ("no", "approximate", "yes")  # the worst first
MOST_EPOCHS = 10  # epochs whose mean losses are printed line by line


def run_table(results: Sequence[Result], width: int) -> Table:
    """Return the table of runs, one line per mode: medians over seeds, and the number of runs per verdict.

    If the table exceeds `width`, the least important columns are dropped.
    """
    seeds = len({result.seed for result in results})
    by_mode = [list(group) for _, group in groupby(results, key=lambda result: result.mode)]
    first, final = by_mode[0], final_name(results)
    difference = f"− {first[0].mode}" if seeds > 1 and len(by_mode) > 1 else ""
    optional = ["best", "first", "last", "curve", *([difference] if difference else [])]
    shown = ["mode", "first", "last", "best", final, *([difference] if difference else []), "curve", "verdict"]
    if any(imposed(runs) != "yes" for runs in by_mode):
        shown.insert(1, "imposed")
    if final == LAST_EPOCH and all(len(curves.epoch_means(result.rows)) == len(result.rows) for result in results):
        shown.remove(final)  # every epoch is one batch
        optional.remove("last")
    for curve_width in (16, 8):  # shorten the curve before dropping a column
        lines = [_cells(runs, curve_width, final) | {difference: _difference(runs, first, final)} for runs in by_mode]
        if needed_width(shown, lines) <= width:
            break
    numbers = ("first", "last", "best", final, difference)
    table = fitted_table(shown, optional, lines, width, numbers)
    table.title = f"loss, median of {_span(len(runs) for runs in by_mode)} seeds" if seeds > 1 else None
    table.title_justify = table.caption_justify = "left"
    if difference in [str(column.header) for column in table.columns]:
        pairs = _span(len(_common_seeds(runs, first)) for runs in by_mode[1:])
        table.caption = literal_text(
            DIFFERENCE.format(mode=first[0].mode, final=final.replace(" ", "-"), seeds=pairs), "table.caption"
        )
    return table


def final_name(results: Sequence[Result]) -> str:
    """Return which losses say how the runs ended: those of the last epoch or of the last tenth of the steps."""
    has_epochs = any(result.rows and result.rows[-1].epoch for result in results)
    return LAST_EPOCH if has_epochs or not any(result.compared for result in results) else LAST_TENTH


def final_loss(runs: Sequence[Result], final: str) -> float | None:
    """Return the median over runs of the mean loss of the last epoch or tenth."""
    return _median(_final(run.rows, final) for run in runs)


def imposed(runs: Sequence[Result]) -> str:
    """Return whether the mode was imposed on all of these runs of a script: yes, approximate or no."""
    found = {str(run.compared.get("imposed", "yes")) for run in runs}
    return next((each for each in IMPOSED if each in found), "no")


def epoch_lines(results: Sequence[Result]) -> list[str]:
    """Return the mean loss of every epoch as lines of text. Return none for several seeds or many epochs."""
    if len({result.seed for result in results}) > 1:
        return []
    lines = []
    for result in results:
        means = curves.epoch_means(result.rows)
        if 1 < len(means) <= MOST_EPOCHS:
            lines += [f"{result.mode}:", *(f"model training loss is {_one_decimal(mean)}" for mean in means), ""]
    return lines


def expectation_lines(checked: Sequence[Checked]) -> list[Text]:
    """Return one line per failed expectation, or one line if all are met."""
    failed = [each for each in checked if not each.ok]
    if checked and not failed:
        return [Text(f"{len(checked)} of {counted(len(checked), 'expectation')} met", "green")]
    return [
        literal_text(
            f"expected {each.mode} seed {each.seed}: {each.key} = {each.expected}, got {_got_text(each.got)}",
            "bold red",
        )
        for each in failed
    ]


def failure_messages(failed: Iterable[Result]) -> list[str]:
    """Return a message for every error, with the runs that it ended."""
    by_error: dict[str, list[str]] = {}
    for each in failed:
        by_error.setdefault(each.error or each.status, []).append(f"{each.mode} seed {each.seed}")
    return [f"{', '.join(runs)} failed:\n{error}" for error, runs in by_error.items()]


def sparkline(values: Sequence[float], width: int) -> str:
    """Return `values` as a line of blocks between their own minimum and maximum. × marks nan and inf."""
    last = len(values) - 1
    cells = list(values)
    if len(values) > width:
        cells = [values[nth * last // max(1, width - 1)] for nth in range(width)]
    finite = [value for value in cells if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    blocks = "▁▂▃▄▅▆▇█"

    def block(value: float) -> str:
        if not math.isfinite(value):
            return "×"
        share = (value - low) / (high - low) if 0 < high - low < math.inf else float(value > low)
        return blocks[int(share * 7.999)]

    return "".join(map(block, cells))


def _cells(runs: Sequence[Result], curve_width: int, final: str) -> dict[str, Text]:
    """Return the cells of one mode."""
    losses = {
        "first": _median(run.first_loss for run in runs),
        "last": _median(run.last_loss for run in runs),
        "best": _median(run.best_loss for run in runs),
        final: final_loss(runs, final),
    }
    return {
        "mode": literal_text(runs[0].mode),
        "imposed": Text(how := imposed(runs), {"no": "bold red", "approximate": "yellow"}.get(how, "")),
        **{name: Text(number_text(loss)) for name, loss in losses.items()},
        "curve": Text(sparkline(_median_levels([run.rows for run in runs]), curve_width)),
        "verdict": _verdicts(runs),
    }


def _difference(runs: Sequence[Result], first: Sequence[Result], final: str) -> Text:
    """Return the final loss minus the first mode's, paired by seed, with its interval."""
    if runs is first:
        return Text("")
    seeds = _common_seeds(runs, first)
    losses = [{run.seed: _final(run.rows, final) for run in each if run.seed in seeds} for each in (runs, first)]
    these, those = ([loss for seed in seeds if (loss := each[seed]) is not None] for each in losses)
    found = paired_difference(these, those)
    if found is None:
        return Text("")
    colour = "" if not found.significant else "green" if found.mean < 0 else "red"
    return Text("±".join(found.rounded()) + ("*" if found.significant else " "), colour)


def _common_seeds(runs: Sequence[Result], first: Sequence[Result]) -> list[int]:
    """Return the seeds for which both modes have rows."""
    these, those = ({run.seed for run in each if run.rows} for each in (runs, first))
    return sorted(these & those)


def _span(counts: Iterable[int]) -> str:
    """Return the common count, or the range of the counts."""
    found = sorted(counts)
    return f"{found[0]}" if found[0] == found[-1] else f"{found[0]} to {found[-1]}"


def _verdicts(runs: Sequence[Result]) -> Text:
    """Return the verdict of all runs, or every verdict with its count. Unfinished runs show their status."""
    counts = Counter(_verdict_or_status(run) for run in runs)
    lines = [
        coloured(word.partition(",")[0], word if len(counts) == 1 else f"{word} {n}")
        for word, n in counts.most_common()
    ]
    return Text("\n").join(lines)


def _verdict_or_status(run: Result) -> str:
    if run.status == "done":
        return run.verdict or run.status
    return f"{run.status}, {run.verdict}" if run.verdict and run.compared else run.status


def _final(rows: Sequence[Row], final: str) -> float | None:
    if not rows:
        return None
    return curves.last_tenth_mean(rows) if final == LAST_TENTH else curves.epoch_means(rows)[-1]


def _median(values: Iterable[float | None]) -> float | None:
    """Return the median of the values that are not None. NaN counts as the largest value."""
    found = [value for value in values if value is not None]
    if len(found) < 2:
        return found[0] if found else None
    return median(math.inf if math.isnan(value) else value for value in found)


def _median_levels(runs: Sequence[Sequence[Row]]) -> list[float]:
    levels = [curves.levels(rows) for rows in runs if rows]
    return [_median(at_step) or 0.0 for at_step in zip(*levels, strict=False)]  # cut to the shortest


def _one_decimal(loss: float) -> str:
    return f"{loss:.1f}" if abs(loss) < 1e6 else f"{loss:.4g}"


def _got_text(got: object) -> object:
    return "[" + ", ".join(map(number_text, got)) + "]" if isinstance(got, list) else got
