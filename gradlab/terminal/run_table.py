"""Results of runs on a terminal: a table of losses and verdicts, epoch means, failed expectations."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text

from gradlab.analysis import curves
from gradlab.analysis.intervals import paired_difference
from gradlab.experiment import inequality_of
from gradlab.rows import TRAINING_SET_LOSS, VALIDATION_LOSS, lower_is_better
from gradlab.terminal.fitted_table import coloured, fitted_table, literal_text, needed_width, number_text
from gradlab.wording import counted, either

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rich.table import Table

    from gradlab.analysis.results import Checked, Result
    from gradlab.rows import Row

DIFFERENCE = "− {mode}: {what} minus {mode}'s, paired by seed (n={seeds}), ±95 % CI; * if the CI excludes 0"
TRAINING_SET = "training set"  # the header of the loss over the training batches at the end
LAST_EPOCH, LAST_TENTH = "last epoch", "last tenth"  # of the steps, of a user's script without epochs
IMPOSED = ("no", "approximate", "yes")  # the worst first
MOST_EPOCHS = 10  # epochs whose mean losses are printed line by line


def run_table(results: Sequence[Result], width: int) -> Table:
    """Return the table of runs, one line per mode: medians over seeds, and the number of runs per verdict.

    If the table exceeds `width`, the least important columns are dropped.
    """
    seeds = len({result.seed for result in results})
    by_mode = [list(group) for _, group in groupby(results, key=lambda result: result.mode)]
    final, paired = final_name(results), _paired(by_mode) if seeds > 1 and len(by_mode) > 1 else {}
    shown, optional = _columns(by_mode, final, paired)
    evaluated = _evaluated(results)
    for curve_width in (16, 8):  # shorten the curve before dropping a column
        lines = [
            _cells(runs, curve_width, final, evaluated) | _differences(runs, by_mode[0], paired) for runs in by_mode
        ]
        if needed_width(shown, lines) > width and TRAINING_SET in optional[:1]:
            shown.remove(optional.pop(0))
        if needed_width(shown, lines) <= width:
            break
    numbers = [name for name in shown if name not in ("mode", "imposed", "curve", "verdict")]
    table = fitted_table(shown, optional, lines, width, numbers)
    titled = "median" if evaluated else "loss, median"
    table.title = f"{titled} of {_span(len(runs) for runs in by_mode)} seeds" if seeds > 1 else None
    table.title_justify = table.caption_justify = "left"
    kept = {str(column.header) for column in table.columns}
    if differing := [paired[name].word for name in shown if name in paired and name in kept]:
        table.caption = literal_text(_caption(differing, by_mode), "table.caption")
    return table


class _Measured(NamedTuple):
    """A value of runs that the table compares between modes: how to find it, and its name in a sentence."""

    word: str
    of: Callable[[Result], float | None]
    lower_is_better: bool = True


def _columns(by_mode: list[list[Result]], final: str, paired: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the names of the columns, and of those that may be dropped, the least important first."""
    results = [run for runs in by_mode for run in runs]
    columns = ["first", "last", "best", final, *(name for name in paired if "\n" not in name)]
    optional = ["best", "first", "last", "curve", *paired]
    if final == LAST_EPOCH and all(len(curves.epoch_means(result.rows)) == len(result.rows) for result in results):
        columns.remove(final)  # every epoch is one batch
        optional.remove("last")
    evaluated = _evaluated(results)
    if TRAINING_SET_LOSS not in evaluated and any(run.training_set_loss is not None for run in results):
        columns.append(TRAINING_SET)
        optional.insert(0, TRAINING_SET)
    for name in map(_header, evaluated):
        columns += [name, *(each for each in paired if each.startswith(f"{name}\n"))]
    imposing = ["imposed"] if any(imposed(runs) != "yes" for runs in by_mode) else []
    optional += [_header(name) for name in reversed(evaluated)]
    return ["mode", *imposing, *columns, "curve", "verdict"], optional


def _evaluated(results: Iterable[Result]) -> list[str]:
    """Return the names of the values in the last evaluations of the runs."""
    return list(dict.fromkeys(name for run in results for last in run.evaluations[-1:] for name in last.values))


def _header(name: str) -> str:
    return {TRAINING_SET_LOSS: TRAINING_SET, VALIDATION_LOSS: "validation"}.get(name, name)


def _paired(by_mode: list[list[Result]]) -> dict[str, _Measured]:
    """Return the columns of differences from the first mode, the least important first."""
    first, results = by_mode[0][0].mode, [run for runs in by_mode for run in runs]
    final = final_name(results)
    of_loss = _Measured(f"{final.replace(' ', '-')} loss", lambda run: _final(run.rows, final))
    of_values = {
        f"{_header(name)}\n− {first}": _Measured(
            name.replace("_", " "), partial(_last_value, name), lower_is_better(name)
        )
        for name in reversed(_evaluated(results))
    }
    return {f"− {first}": of_loss, **of_values}


def _last_value(name: str, run: Result) -> float | None:
    """Return the value in the last evaluation of a run."""
    return run.evaluations[-1].values.get(name) if run.evaluations else None


def _caption(words: list[str], by_mode: list[list[Result]]) -> str:
    pairs = _span(len(_common_seeds(runs, by_mode[0])) for runs in by_mode[1:])
    what = " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
    return DIFFERENCE.format(mode=by_mode[0][0].mode, what=what, seeds=pairs)


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


def measured_line(run: Result) -> str:
    """Return the training set loss of a run, and the values of its last evaluation, as a line of text."""
    parts = []
    last = run.evaluations[-1] if run.evaluations else None
    if run.training_set_loss is not None and not (last and TRAINING_SET_LOSS in last.values):
        parts.append(f"{TRAINING_SET_LOSS} {number_text(run.training_set_loss)}")
    if last:
        found = ", ".join(f"{name} {number_text(value)}" for name, value in last.values.items())
        parts.append(f"after {counted(last.step, 'step')}: {found}")
    return f"{run.mode} seed {run.seed}: {'; '.join(parts)}"


def expectation_lines(checked: Sequence[Checked]) -> list[Text]:
    """Return one line per failed expectation, or one line if all are met."""
    failed = [each for each in checked if not each.ok]
    if checked and not failed:
        return [Text(f"{len(checked)} of {counted(len(checked), 'expectation')} met", "green")]
    return [
        literal_text(
            f"expected {each.mode} seed {each.seed}: {each.key} {_expected_text(each.expected)}, "
            f"got {_got_text(each.got)}",
            "bold red",
        )
        for each in failed
    ]


def evaluation_notice(results: Sequence[Result], checked: Sequence[Checked]) -> str:
    """Return a message if reused runs lack evaluations that other runs have or that are expected; else ""."""
    lacking = any(run.cached and not run.evaluations for run in results)
    missed = any(each.got is None and inequality_of(each.expected) for each in checked)
    if not lacking or not (missed or any(run.evaluations for run in results)):
        return ""
    return f"Reused runs have no evaluations; {either('--fresh', 'fresh=True')} adds them."


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


def _cells(runs: Sequence[Result], curve_width: int, final: str, evaluated: Iterable[str]) -> dict[str, Text]:
    """Return the cells of one mode; those of a value that it did not evaluate are empty."""
    losses = {
        "first": _median(run.first_loss for run in runs),
        "last": _median(run.last_loss for run in runs),
        "best": _median(run.best_loss for run in runs),
        final: final_loss(runs, final),
        TRAINING_SET: _median(run.training_set_loss for run in runs),
    }
    for name in evaluated:
        best = min if lower_is_better(name) else max
        losses[_header(name)] = _median((_last_value(name, run) for run in runs), best)
    return {
        "mode": literal_text(runs[0].mode),
        "imposed": Text(how := imposed(runs), {"no": "bold red", "approximate": "yellow"}.get(how, "")),
        **{name: Text(number_text(loss)) for name, loss in losses.items()},
        "curve": Text(sparkline(_median_levels([run.rows for run in runs]), curve_width)),
        "verdict": _verdicts(runs),
    }


def _differences(runs: Sequence[Result], first: Sequence[Result], paired: Mapping[str, _Measured]) -> dict[str, Text]:
    """Return the cells with the differences of a mode from the first."""
    return {name: _difference(runs, first, measured) for name, measured in paired.items()}


def _difference(runs: Sequence[Result], first: Sequence[Result], measured: _Measured) -> Text:
    """Return a value minus the first mode's, paired by seed, with its interval."""
    if runs is first:
        return Text("")
    seeds = _common_seeds(runs, first)
    by_seed = [{run.seed: measured.of(run) for run in each} for each in (runs, first)]
    these, those = ([value for seed in seeds if (value := each[seed]) is not None] for each in by_seed)
    found = paired_difference(these, those) if len(these) == len(those) else None
    if found is None:
        return Text("")
    colour = "" if not found.significant else "green" if (found.mean < 0) == measured.lower_is_better else "red"
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


def _median(values: Iterable[float | None], best: Callable[..., float] = min) -> float | None:
    """Return the median of the values that are not None. NaN counts as the worst value."""
    found = [value for value in values if value is not None]
    worst = math.inf if best is min else -math.inf
    middle = median([worst if math.isnan(value) else value for value in found]) if found else None
    has_infinite = any(map(math.isinf, found))
    return math.nan if middle == worst and not has_infinite else middle


def _median_levels(runs: Sequence[Sequence[Row]]) -> list[float]:
    levels = [curves.levels(rows) for rows in runs if rows]
    return [_median(at_step) or 0.0 for at_step in zip(*levels, strict=False)]  # cut to the shortest


def _one_decimal(loss: float) -> str:
    return f"{loss:.1f}" if abs(loss) < 1e6 else f"{loss:.4g}"


def _expected_text(expected: object) -> str:
    return str(expected).strip() if inequality_of(expected) else f"= {expected}"


def _got_text(got: object) -> object:
    return "[" + ", ".join(map(number_text, got)) + "]" if isinstance(got, list) else got
