"""What the terminal shows when runs are done or claims measured: tables, sparklines, epoch lines, findings.

The command line prints them.
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gradlab.analysis import curves
from gradlab.analysis.intervals import paired_difference
from gradlab.errors import printable
from gradlab.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

    from gradlab.analysis.results import Checked, Result
    from gradlab.analysis.sharpness import LrBound, SharpnessReport
    from gradlab.rows import Row
    from gradlab.store import RunRecord, SweepRecord
    from gradlab.verify import ClaimResult

COLOURS = {"falls": "green", "flat": "cyan", "oscillates": "yellow", "rises": "red", "diverges": "bold red"}
ANSWER_COLOURS = {"holds": "green", "holds when": "yellow", "does not hold": "red", "skipped": "cyan"}
STATUS_COLOURS = {"done": "green", "failed": "bold red"}
DIFFERENCE = (
    "− {mode}: mean difference in the loss of the last epoch over {seeds} pairs of one seed, with its 95 % interval; "
    "* where that leaves out 0"
)


def table_of(results: Sequence[Result], width: int) -> Table:
    """Return the table of a run: a line a mode; of several seeds the medians, and how many got which verdict.

    Where `width` columns are too few for all of it, the less telling columns go first.
    """
    seeds = len({result.seed for result in results})
    by_mode = [list(group) for _, group in groupby(results, key=lambda result: result.mode)]
    against = f"− {by_mode[0][0].mode}" if seeds > 1 and len(by_mode) > 1 else ""
    optional = ["best", "first", "last", "curve", *([against] if against else [])]
    telling = "last epoch"
    if all(len(curves.epoch_means(result.rows)) == len(result.rows) for result in results):
        telling = "last"  # an epoch is one batch
        optional.remove(telling)
    shown = ["mode", "first", "last", "best", "last epoch", against, "curve", "verdict"]
    shown = [name for name in shown if name in ("mode", "verdict", telling, *optional)]
    for spark in (16, 8):  # a shorter curve goes before a column
        lines = [_cells(runs, spark) | {against: _difference(runs, by_mode[0])} for runs in by_mode]
        if _needed(shown, lines) <= width:
            break
    table = _fitting(shown, optional, lines, width, numbers=("first", "last", "best", "last epoch", against))
    title = f"loss, median of {_span(len(runs) for runs in by_mode)} seeds" if seeds > 1 else None
    table.title, table.title_justify = title, "left"
    if against in shown:
        pairs = _span(len(_common_seeds(runs, by_mode[0])) for runs in by_mode[1:])
        caption = DIFFERENCE.format(mode=by_mode[0][0].mode, seeds=pairs)
        table.caption, table.caption_justify = _text(caption, "table.caption"), "left"
    return table


def run_list(records: Iterable[RunRecord], width: int) -> Group:
    """Return a table of runs; if it does not fit `width` columns, one table per experiment, with fewer columns.

    Runs that differ in mode, seed or lr have different lines at any width.
    """
    lines = [
        {
            "experiment": _text(record.experiment),
            "mode": _text(record.mode),
            "seed": Text(str(record.seed)),
            "lr": Text(_lr(record)),
            "status": _text(record.status, STATUS_COLOURS.get(record.status, "")),
            "rows": Text("" if record.rows is None else str(record.rows)),
            "started": _text(record.started.replace("T", " ")[:16]),
        }
        for record in records
    ]
    telling, numbers = ("experiment", "mode", "seed", "lr"), ("seed", "rows")
    shown = [*telling, "status", "rows", "started"]
    if _needed([*telling, "status"], lines) <= width:
        return Group(_fitting(shown, ["started", "rows"], lines, width, numbers))
    tables = []
    for name, of_one in groupby(lines, key=lambda line: line["experiment"].plain):
        table = _fitting(shown[1:], ["started", "rows", "lr", "seed"], list(of_one), width, numbers, telling)
        table.title, table.title_justify = _text(f"runs of {name}", "table.title"), "left"
        tables.append(table)
    return Group(*tables)


def sweep_lines(record: SweepRecord, ended: dict[str, int]) -> list[Text]:
    """Return what a sweep was and how its runs ended, a line or a few each."""
    axes = " × ".join(_axis_text(axis) for axis in record.axes)
    modes = counted(len(record.modes), "mode") + " × " if record.modes else ""
    endings = Text(", ").join(
        _text(f"{word} {count:,}", COLOURS.get(word, STATUS_COLOURS.get(word, ""))) for word, count in ended.items()
    )
    lines = [_text(axes), Text(f"{modes}{counted(len(record.seeds), 'seed')}: {counted(record.runs, 'run')}"), endings]
    if missing := record.runs - sum(ended.values()):
        lines.append(Text(f"{missing:,} of them missing", "bold red"))
    if record.rate:
        lines.append(Text(f"{record.rate:,.0f} run-steps/s"))
    return lines


def sweep_list(sweeps: Iterable[tuple[SweepRecord, int]], width: int) -> Table:
    """Return a table of sweeps and how many of their runs are done; less telling columns go where it is narrow."""
    shown = ["sweep of", "axes", "status", "runs", "started"]
    lines = [
        {
            "sweep of": _text(record.experiment),
            "axes": _text(" × ".join(f"{axis['key']} {len(axis['values'])}" for axis in record.axes)),
            "status": _text(record.status, STATUS_COLOURS.get(record.status, "")),
            "runs": Text(f"{done:,}/{record.runs:,}"),
            "started": _text(record.started.replace("T", " ")[:16]),
        }
        for record, done in sweeps
    ]
    return _fitting(shown, ["started", "axes"], lines, width, numbers=("runs",), telling=("sweep of", "axes"))


def _axis_text(axis: dict[str, Any]) -> str:
    """Return an axis in words: its ends and how many values it has, or the values where they are few."""
    values = axis["values"]
    if len(values) <= 4:
        return f"{axis['key']} {', '.join(map(str, values))}"
    how = ", log" if axis.get("log") else ""
    return f"{axis['key']} {values[0]} … {values[-1]} ({len(values)}{how})"


def _lr(record: RunRecord) -> str:
    optimizer = record.settings.get("optimizer")
    lr = optimizer.get("lr") if isinstance(optimizer, dict) else None
    return f"{lr:g}" if isinstance(lr, float) else ""


def word_list(words: dict[str, str]) -> Table:
    """Return a table of names and what they mean."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for name, meaning in words.items():
        table.add_row(Text(name), Text(meaning))
    return table


def expectation_lines(checked: Sequence[Checked]) -> list[Text]:
    """Return a line for each expectation that failed, or one that says that all hold."""
    failed = [each for each in checked if not each.ok]
    lines = [
        _text(
            f"expected {each.mode} seed {each.seed}: {each.key} = {each.expected}, got {_rounded(each.got)}",
            "bold red",
        )
        for each in failed
    ]
    if checked and not failed:
        lines = [Text(f"{len(checked)} expectations hold", "green")]
    return lines


def _text(content: str, style: str = "") -> Text:
    """Return what stands for itself: neither markup of rich nor anything that a terminal obeys."""
    return Text(printable(content), style)


def _rounded(got: object) -> object:
    return "[" + ", ".join(loss_text(each) for each in got) + "]" if isinstance(got, list) else got


def epoch_lines(results: Sequence[Result], most: int = 10) -> list[str]:
    """Return the mean loss of each epoch in words, mode after mode; nothing where that would be too many lines."""
    if len({result.seed for result in results}) > 1:
        return []
    lines = []
    for result in results:
        means = curves.epoch_means(result.rows)
        if not 1 < len(means) <= most:
            continue
        lines += [f"{result.mode}:", *(f"model training loss is {_one_decimal(mean)}" for mean in means), ""]
    return lines


def sharpness_block(report: SharpnessReport, width: int) -> Group:
    """Return λ of each seed and their median, the largest stable lr of each mode, and what there is to say of them."""
    seeds = Table(box=None, show_header=False)
    seeds.add_column()
    seeds.add_column(justify="right", no_wrap=True)
    for seed, found in report.seeds.items():
        seeds.add_row(Text(f"seed {seed}"), Text(f"{found.eigenvalue:.4g}"))
    if len(report.seeds) > 1:
        seeds.add_row(Text("median", "bold"), Text(f"{report.eigenvalue:.4g}", "bold"))
    shown = ["mode", "largest stable lr", "lr here"]
    lines = [
        {"mode": _text(each.mode), shown[1]: Text(_largest(each), "bold"), shown[2]: _lr_here(each)}
        for each in report.bounds
    ]
    table = _fitting(shown, ["lr here"], lines, width, numbers=shown[1:])
    notes = [_text(note, "dim") for note in report.notes()]
    head = Text("λ, the largest eigenvalue of the Hessian at the initial weights", "bold")
    return Group(head, seeds, Text(""), table, *([Text("")] if notes else []), *notes)


def _largest(bound: LrBound) -> str:
    if bound.largest_stable_lr is None:
        return "not known"
    return {0.0: "none", math.inf: "any"}.get(bound.largest_stable_lr, f"{bound.largest_stable_lr:.4g}")


def _lr_here(bound: LrBound) -> Text:
    above = bound.largest_stable_lr is not None and bound.lr >= bound.largest_stable_lr
    return Text(f"{bound.lr:g}", "red" if above else "")


def finding_block(finding: ClaimResult) -> Group:
    """Return what was found of a claim: its name, its statement, the answer and the numbers it rests on."""
    answer = Text(finding.answer, ANSWER_COLOURS.get(finding.kind, "bold red"))
    if not finding.ok:
        answer.append(f"\nbut the documented answer is: {finding.documented}", "bold red")
    figures = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    figures.add_column(justify="right", no_wrap=True)
    figures.add_column(style="dim")
    for name, value in finding.figures.items():
        figures.add_row(Text(figure_text(value)), Text(name))
    below: list[RenderableType] = [Text(finding.statement, "italic"), answer, *([figures] if finding.figures else [])]
    return Group(Text(finding.name, "bold"), Padding(Group(*below), (0, 0, 1, 2)))


def findings_line(findings: Sequence[ClaimResult]) -> Text:
    """Return the sum of all: how many claims hold, hold when …, do not hold, and whether that is as documented."""
    words = {  # of one, of several
        "holds": ("holds", "hold"),
        "holds when": ("holds when …", "hold when …"),
        "does not hold": ("does not hold", "do not hold"),
        "skipped": ("skipped", "skipped"),
        "other": ("without an answer", "without an answer"),
    }
    kinds = Counter(finding.kind for finding in findings)
    parts = [f"{n} {word[n > 1]}" for kind, word in words.items() if (n := kinds[kind])]
    wrong = [finding.name for finding in findings if not finding.ok]
    end = f"not as documented: {', '.join(wrong)}" if wrong else "all as documented"
    claims = counted(len(findings), "claim")
    return Text(f"{claims}: {', '.join(parts)}; {end}", "bold red" if wrong else "green")


def figure_text(value: float | str) -> str:
    """Return a number in four significant digits, and a count or a word as it is."""
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def sparkline(values: Sequence[float], width: int) -> str:
    """Return `values` as a line of blocks, low to high within itself; × where they are not finite."""
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


def _one_decimal(loss: float) -> str:
    return f"{loss:.1f}" if abs(loss) < 1e6 else f"{loss:.4g}"


def loss_text(loss: float | None) -> str:
    """Return a loss in four significant digits."""
    return "" if loss is None else f"{loss:.4g}"


def _cells(runs: Sequence[Result], spark: int) -> dict[str, Text]:
    """Return the cells of one mode."""
    losses = {
        "first": _median(run.first_loss for run in runs),
        "last": _median(run.last_loss for run in runs),
        "best": _median(run.best_loss for run in runs),
        "last epoch": _median(_last_epoch(run.rows) for run in runs),
    }
    return {
        "mode": _text(runs[0].mode),
        **{name: Text(loss_text(loss)) for name, loss in losses.items()},
        "curve": Text(sparkline(_median_levels([run.rows for run in runs]), spark)),
        "verdict": _verdicts(runs),
    }


def _difference(runs: Sequence[Result], first: Sequence[Result]) -> Text:
    """Return how much the mode's last epoch lies above that of the first mode, over pairs of one seed."""
    if runs is first:
        return Text("")
    seeds = _common_seeds(runs, first)
    losses = [{run.seed: _last_epoch(run.rows) for run in each if run.seed in seeds} for each in (runs, first)]
    these, those = ([loss for seed in seeds if (loss := each[seed]) is not None] for each in losses)
    found = paired_difference(these, those)
    if found is None:
        return Text("")
    colour = "" if not found.significant else "green" if found.mean < 0 else "red"
    return Text("±".join(found.rounded()) + ("*" if found.significant else " "), colour)


def _common_seeds(runs: Sequence[Result], first: Sequence[Result]) -> list[int]:
    """Return the seeds of which both have rows."""
    these, those = ({run.seed for run in each if run.rows} for each in (runs, first))
    return sorted(these & those)


def _span(counts: Iterable[int]) -> str:
    """Return what all counts are, or their range."""
    found = sorted(counts)
    return f"{found[0]}" if found[0] == found[-1] else f"{found[0]} to {found[-1]}"


def _fitting(
    shown: list[str],
    optional: list[str],
    lines: Sequence[dict[str, Text]],
    width: int,
    numbers: Sequence[str],
    telling: Sequence[str] = (),
) -> Table:
    """Return the table of these columns, without as many of the optional ones as do not fit, the first ones first.

    Lines that differ in the `telling` columns stay different: a column that they need is kept, and text folds.
    """
    for name in optional:
        kept = [each for each in shown if each in telling]
        as_different = _different(lines, kept) == _different(lines, [each for each in kept if each != name])
        if _needed(shown, lines) > width and as_different:
            shown.remove(name)
    table = Table(box=None)
    for name in shown:
        number = name in numbers
        table.add_column(_text(name), justify="right" if number else "left", no_wrap=number, overflow="fold")
    for line in lines:
        table.add_row(*(line[name] for name in shown))
    return table


def _different(lines: Sequence[dict[str, Text]], names: Sequence[str]) -> int:
    """Return how many of the lines differ in these columns."""
    return len({tuple(line[name].plain for name in names) for line in lines})


def _needed(names: Sequence[str], lines: Sequence[dict[str, Text]]) -> int:
    """Return how many columns of the terminal a table of these columns takes."""
    return sum(2 + max([len(name), *(_width(line[name]) for line in lines)]) for name in names)


def _width(cell: Text) -> int:
    return max((line.cell_len for line in cell.split()), default=0)


def _verdicts(runs: Sequence[Result]) -> Text:
    counted = Counter(run.verdict if run.status == "done" and run.verdict else run.status for run in runs)
    text = Text()
    for nth, (word, times) in enumerate(counted.most_common()):
        text.append("\n" if nth else "")
        colour = COLOURS.get(word, STATUS_COLOURS.get(word, ""))
        text.append(_text(word if len(counted) == 1 else f"{word} {times}", colour))
    return text


def _last_epoch(rows: Sequence[Row]) -> float | None:
    return curves.epoch_means(rows)[-1] if rows else None


def _median(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    if len(there) < 2:
        return there[0] if there else None
    return median(math.inf if math.isnan(value) else value for value in there)


def _median_levels(runs: Sequence[Sequence[Row]]) -> list[float]:
    each = [curves.levels(rows) for rows in runs if rows]
    shortest = min(map(len, each), default=0)
    return [_median(levels[nth] for levels in each) or 0.0 for nth in range(shortest)]
