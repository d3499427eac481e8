"""The commands that read: plot, list, show, export, verify, and the listings of what there is."""

from __future__ import annotations

import os
import shlex
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradlab.cli.app import Json, Out, app
from gradlab.cli.ending import AT_FAULT, DONE, FAILED, INTERRUPTED, Stopped
from gradlab.cli.saying import answer, console_, print_json, say, tell
from gradlab.errors import GradlabError
from gradlab.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from gradlab.analysis.results import Result
    from gradlab.rows import Row
    from gradlab.store import Results, RunFolder, RunRecord, SweepFolder, SweepRecord


@app.command()
def plot(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Runs or experiments; default the newest under runs/.")
    ] = None,
    output: Annotated[
        list[Path] | None, typer.Option("-o", "--output", help="FILE.png, .svg or .pdf; may be given several times.")
    ] = None,
    x: Annotated[str | None, typer.Option("--x", help="step, update or epoch; default what reads best.")] = None,
    width: Annotated[int, typer.Option(help="Width of a PNG in pixels.", min=400, max=6000)] = 1200,
    title: Annotated[str | None, typer.Option(help="Default: the experiment's.")] = None,
    theory: Annotated[
        bool, typer.Option("--theory", help="Dashed, the closed forms of losses that have them.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not say which files were written.")] = False,
) -> None:
    """Draw the loss of each mode; of a sweep, the phase diagram."""
    from gradlab import store

    sweeps = [store.newest_sweep(folder) for folder in folders or [store.RUNS]]
    if all(sweeps):
        draw_sweeps([each for each in sweeps if each], output, title, width, quiet=quiet)
    else:
        draw(runs_at(folders), output, x=x, title=title, width=width, theory=theory, quiet=quiet)


def draw(
    runs: list[RunFolder],
    output: list[Path] | None,
    *,
    x: str | None = None,
    title: str | None = None,
    width: int = 1200,
    theory: bool = False,
    quiet: bool = False,
) -> None:
    """Draw the loss of each mode of these runs."""
    from gradlab import plotting, store

    files = output or [store.ExperimentFolder(runs[0].path.parent).picture_file]
    plotting.check_formats(files)
    records = list(read(runs))
    lacking = plotting.without_theory(records) if theory else []
    figure = plotting.draw(records, axis=x, title=title, width=width, theory=theory)
    for file in files:
        store.write_bytes(file, plotting.rendered(figure, file.suffix))
        if not quiet:
            answer(file)
    for reason in lacking:
        say(reason)
    for record, rows in records:
        if record.status != "done":
            say(f"{record.mode} seed {record.seed} is not whole: {record.status}, {len(rows)} rows")


def draw_sweeps(
    sweeps: list[SweepFolder],
    output: list[Path] | None,
    title: str | None = None,
    width: int = 1200,
    *,
    quiet: bool = False,
) -> None:
    """Draw sweeps, the panels of one beside those of the next."""
    from gradlab import plotting, store

    files = output or [sweeps[0].picture_file]
    plotting.check_formats(files)
    panels: list[Any] = []
    for each in sweeps:
        record, results = each.read(), each.results()
        found = plotting.panels_of(
            record.values,
            record.modes or ["the rule"],
            record.seeds,
            status=results.column("status", record.runs),
            verdict=results.column("verdict", record.runs),
            last_loss=results.column("last_loss", record.runs),
            sharpness=(record.sharpness or {}).get("eigenvalues", []),
        )
        named = record.title or record.experiment
        panels += [panel._replace(title=panel.title or named) if len(sweeps) > 1 else panel for panel in found]
        _tell_missing(record, results)
    heading = (record.title or record.experiment if len(sweeps) == 1 else "") if title is None else title
    figure = plotting.draw_phases(panels, title=heading, width=width)
    for file in files:
        store.write_bytes(file, plotting.rendered(figure, file.suffix))
        if not quiet:
            answer(file)


@app.command(name="list")
def list_(out: Out = Path("runs"), json: Json = False) -> None:
    """List the runs there are, the experiment run last first."""
    from gradlab import store

    runs = [run for experiment in store.experiments(out) for run in experiment.runs()]
    found, damaged, lacking = [], [], []
    for each in runs:
        try:
            record, lack = each.standing(each.read())
            found.append((each, _with_rows(each, record)))
            lacking += [lack] if lack else []
        except GradlabError as error:
            damaged.append(str(error))
    sweeps: list[tuple[SweepFolder, SweepRecord, int]] = []
    for sweep in (sweep for experiment in store.experiments(out) for sweep in experiment.sweeps()):
        try:
            standing = sweep.read()
            sweeps.append((sweep, standing, _done_of(sweep, standing)))
        except GradlabError as error:
            damaged.append(str(error))
    if json:
        keys = ("experiment", "mode", "seed", "status", "rows", "started", "seconds")
        listed = [{key: getattr(record, key) for key in keys} | {"folder": str(run.path)} for run, record in found]
        listed_sweeps = {"sweeps": [_sweep_json(*sweep) for sweep in sweeps]} if sweeps else {}
        print_json({"runs": listed} | listed_sweeps | ({"damaged": damaged} if damaged else {}))
    elif found or sweeps:
        _show_list([record for _, record in found], [(record, done) for _, record, done in sweeps])
    elif not damaged:
        say(f"no runs under {out}; `gradlab run` makes some")
    tell(lacking)
    if damaged and json:
        raise typer.Exit(AT_FAULT)
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        raise GradlabError(damaged[0] + more)


def _with_rows(run: RunFolder, record: RunRecord) -> RunRecord:
    """Return the record of a run with the number of its rows so far, which it lacks while the run is not done."""
    return replace(record, rows=run.whole_rows()) if record.rows is None else record


def _show_list(records: list[RunRecord], sweeps: list[tuple[SweepRecord, int]]) -> None:
    from gradlab.terminal.tables import run_list, sweep_list

    console = console_()
    if records:
        console.print(run_list(records, console.width))
    if sweeps:
        console.print(sweep_list(sweeps, console.width))


def _done_of(sweep: SweepFolder, record: SweepRecord) -> int:
    """Return how many runs of a sweep are done; a whole one's results need not be read for that."""
    return record.done if record.status == "done" else len(sweep.results().by_run())


def _sweep_json(sweep: SweepFolder, record: SweepRecord, done: int) -> dict[str, Any]:
    keys = ("experiment", "status", "runs", "started", "seconds")
    axes = {key: len(values) for key, values in record.values.items()}
    return {key: getattr(record, key) for key in keys} | {"done": done, "axes": axes, "folder": str(sweep.path)}


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(help="A run, a sweep, or an experiment's folder.")],
    json: Json = False,
) -> None:
    """Show what a run, a sweep or an experiment was and what came of it."""
    from gradlab import store
    from gradlab.analysis.results import result_of
    from gradlab.terminal.tables import epoch_lines, table_of

    if sweep := store.newest_sweep(folder):
        _show_sweep(sweep, as_json=json)
        return
    runs = runs_at([folder])
    results = [result_of(run, cached=True) for run in runs]
    record = runs[0].read()
    if json:
        print_json(
            {"experiment": record.experiment, "folder": str(folder), "runs": [result_json(each) for each in results]}
        )
        return
    console = console_()
    _show_settings(record, ("mode", "seed"))
    for line in epoch_lines(results):
        answer(line)
    console.print(table_of(results, console.width))
    for error in by_error(results):
        say(error)
    for each in results:
        tell(each.damaged)


def _show_settings(record: RunRecord | SweepRecord, besides: tuple[str, ...]) -> None:
    """Show what was trained, but for these keys."""
    answer(f"{record.experiment}: {record.title}" if record.title else record.experiment)
    for key, value in record.settings.items():
        if key not in besides and value not in (None, {}):
            answer(f"  {key}: {plain(value)}")
    answer(f"  {record.started}, " + ", ".join(f"{name} {version}" for name, version in record.versions.items()))
    print()


def _show_sweep(sweep: SweepFolder, *, as_json: bool) -> None:
    from gradlab.terminal.tables import sweep_lines

    record, results = sweep.read(), sweep.results()
    ended = results.ended()
    if as_json:
        keys = ("experiment", "title", "settings", "axes", "modes", "seeds", "status", "runs", "started", "seconds")
        shown = {key: getattr(record, key) for key in keys} | {"run_steps_per_second": record.rate}
        print_json(shown | {"folder": str(sweep.path), "done": sum(ended.values()), "ended": ended})
        return
    _show_settings(record, ("vary", "modes", "seeds"))
    console = console_()
    for line in sweep_lines(record, ended):
        console.print(line)
    tell(results.damaged if sum(ended.values()) < record.runs else [])


def _tell_missing(record: SweepRecord, results: Results) -> None:
    """Say how many runs of a sweep are not there; a damaged line is none where its runs were trained again."""
    if missing := record.runs - len(results.by_run()):
        tell(results.damaged)
        say(f"the sweep is not whole: {record.status}, {missing:,} of {record.runs:,} runs are missing")


@app.command()
def export(
    folders: Annotated[list[Path], typer.Argument(help="Runs or experiments; or a sweep, by itself.")],
    to: Annotated[str, typer.Option(help="The format: csv.")] = "csv",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write here instead of to stdout.")] = None,
) -> None:
    """Write the rows, or of a sweep a line a run, for other tools; floats are written so that they round-trip."""
    from gradlab import store
    from gradlab.errors import StoreError, unknown

    if to != "csv":
        raise StoreError(unknown("format", to, ["csv"]))
    sweeps = [sweep for folder in folders if (sweep := store.newest_sweep(folder))]
    if sweeps and len(folders) > 1:
        raise StoreError(f"{sweeps[0].path} is a sweep, whose columns are its own; export it by itself")
    if sweeps:
        record, results = sweeps[0].read(), sweeps[0].results()
        lines = store.csv_of_sweep(record, results)
        _tell_missing(record, results)
    else:
        lines = store.csv_of(read(runs_at(folders)))
    if output:
        store.write_bytes(output, "".join(lines).encode())
    else:
        for line in lines:
            print(line, end="")


@app.command()
def modes(json: Json = False) -> None:
    """List the modes: what may happen to .grad between two optimizer steps."""
    from gradlab.modes import WORDS

    _show_words(WORDS, "modes", as_json=json)


@app.command()
def tasks(json: Json = False) -> None:
    """List the built-in tasks and their options."""
    from inspect import getdoc, signature

    from gradlab.tasks import BUILT_IN

    words = {}
    for name, function in BUILT_IN.items():
        options = [f"{key}={each.default!r}" for key, each in signature(function).parameters.items() if key != "seed"]
        words[name] = f"{(getdoc(function) or '').splitlines()[0]} Options: {', '.join(options)}."
    words["FILE.py:NAME"] = "Your own: def NAME(seed: int, ...) -> gradlab.Task; or package.module:NAME."
    _show_words(words, "tasks", as_json=json)


@app.command()
def experiments(
    name: Annotated[str | None, typer.Argument(help="Print this one's TOML, to start your own from.")] = None,
    json: Json = False,
) -> None:
    """List the experiments that ship with gradlab, or print one."""
    from gradlab import experiment

    if name:
        toml = experiment.read_text(experiment.locate(name))
        if json:
            print_json({"name": name, "toml": toml})
        else:
            answer(toml, end="")
        return
    _show_words({each: experiment.load(each).title for each in experiment.shipped()}, "experiments", as_json=json)


@app.command()
def verify(
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="This claim alone; may be given several times.")
    ] = None,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="The answers only: no progress.")] = False,
) -> None:
    """Test what is said of zero_grad(), live: each claim holds, holds when …, or does not hold."""
    from gradlab import verify as claims

    chosen, findings = claims.select(only), []
    console = console_()
    for nth, claim in enumerate(chosen, 1):
        try:
            with nullcontext() if json or quiet else _telling(f"claim {nth}/{len(chosen)} {claim.name}"):
                finding = claims.measure(claim)
        except KeyboardInterrupt:
            raise Stopped("interrupted", INTERRUPTED) from None
        findings.append(finding)
        if not json:
            from gradlab.terminal.tables import finding_block

            console.print(finding_block(finding))
    if json:
        keys = ("name", "statement", "answer", "figures", "ok")
        print_json({"claims": [{key: getattr(each, key) for key in keys} for each in findings]})
    else:
        from gradlab.terminal.tables import findings_line

        console.print(findings_line(findings))
    raise typer.Exit(DONE if all(finding.ok for finding in findings) else FAILED)


def _telling(what: str) -> AbstractContextManager[object]:
    """Say what is being done: on a terminal for as long as it lasts, elsewhere as a line."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        return console.status(what)
    say(what)
    return nullcontext()


# Showing


def by_error(runs: list[Result]) -> dict[str, list[Result]]:
    """Return the runs that failed, by what ended them."""
    found: dict[str, list[Result]] = {}
    for run in runs:
        if run.error:
            found.setdefault(run.error, []).append(run)
    return found


def result_json(result: Any) -> dict[str, Any]:
    """Return a result as JSON shows it."""
    keys = (
        "mode",
        "seed",
        "status",
        "verdict",
        "steps",
        "updates",
        "first_loss",
        "last_loss",
        "best_loss",
        "seconds",
        "cached",
    )
    more = {key: getattr(result, key) for key in ("error", "damaged") if getattr(result, key)}
    return {key: getattr(result, key) for key in keys} | {"folder": str(result.folder)} | more


def _show_words(words: dict[str, str], kind: str, *, as_json: bool) -> None:
    if as_json:
        print_json({kind: [{"name": name, "what": what} for name, what in words.items()]})
        return
    from gradlab.terminal.tables import word_list

    console_().print(word_list(words))


# Reading


def runs_at(folders: list[Path] | None) -> list[RunFolder]:
    """Return the runs that the folders stand for, each once; those of the newest experiment where none is given.

    Say how many runs of an experiment's folder are not among them, because their settings differ.
    """
    from gradlab import store

    given = folders or [store.RUNS]
    if len(given) > 1:  # runs/NAME/* matches files of ours too
        given = [folder for folder in given if not folder.is_file()]
    groups = [store.group_at(folder) for folder in given]
    for there, others in {group.runs[0].path.parent: group.others for group in groups if group.others}.items():
        above = Path(os.path.normpath(there / ".."))  # also of the current folder
        out = "" if above == store.RUNS else f" --out {shlex.quote(str(above))}"
        say(
            f"Not shown: {counted(others, 'run')} in {there} with other settings, or copies. "
            f"`gradlab list{out} --json` names their folders; give these to show, plot or export."
        )
    return list(dict.fromkeys(run for group in groups for run in group.runs))


def read(runs: Iterable[RunFolder]) -> Iterator[tuple[RunRecord, list[Row]]]:
    """Yield the record and the rows of each run; tell of damaged lines and go on without them."""
    for run in runs:
        record, logged = run.read(), run.rows()
        record, lack = run.standing(record, logged)
        tell(logged.damaged)
        tell([lack] if lack else [])
        yield record, logged.rows


def plain(value: object) -> str:
    """Return a setting as it is shown."""
    return ", ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, dict) else str(value)
