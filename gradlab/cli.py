"""The command line: parse, call, show. The only file that prints or exits."""

from __future__ import annotations

import io
import os
import sys
from contextlib import nullcontext, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from gradlab import __version__
from gradlab.errors import GradlabError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import TextIO

    from rich.console import Console

    from gradlab.audit import Report
    from gradlab.experiment import Experiment
    from gradlab.progress import Bar, Lines
    from gradlab.results import Outcome, Result
    from gradlab.rows import Row
    from gradlab.store import RunFolder, RunRecord

DONE, FAILED, AT_FAULT, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141

UsageError = typer.BadParameter.__mro__[1]  # Typer carries its own Click and exports no nearer name


class _Stopped(BaseException):
    """A signal came: what to say, and the exit status."""


class Commands(TyperGroup):
    """The commands, with what is caught once for all of them."""

    def main(  # type: ignore[override]  # it takes all that Typer passes on
        self, args: Any = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Parse, call, and exit with the status of the design."""
        words = list(sys.argv[1:] if args is None else args)
        as_json = "--json" in words
        _hold_standard_streams()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # blocks and signs that a terminal does not have
        extra["standalone_mode"] = False
        try:
            status = super().main(words, prog_name or "gradlab", **extra)
        except GradlabError as error:
            status = _fail(str(error), AT_FAULT, as_json=as_json)
        except UsageError as error:  # type: ignore[misc]  # mypy cannot see that it is an exception
            status = AT_FAULT
            if message := error.format_message():  # there is none where help was printed instead
                where = error.ctx.command_path if error.ctx else "gradlab"
                _fail(f"{message}\nsee: {where} --help", AT_FAULT, as_json=as_json)
        except _Stopped as stop:
            status = _fail(*stop.args, as_json=as_json)
        except SystemExit as end:  # how rich ends when its reader has left; it has seen to stdout
            status = PIPE_CLOSED if isinstance(end.__context__, BrokenPipeError) else end.code
        except OSError as error:  # of help, which is printed before there is a command to invoke
            status = _output_lost(error)
        sys.exit(status if isinstance(status, int) else DONE)

    def invoke(self, ctx: Any) -> Any:
        """Call the command; what its output meets on the way out is told as well."""
        try:
            result = super().invoke(ctx)
            if sys.stdout:
                sys.stdout.flush()
        except KeyboardInterrupt:
            raise _Stopped("interrupted", INTERRUPTED) from None
        except OSError as error:
            if error.filename:
                raise GradlabError(f"{error.filename}: {error.strerror}") from None
            raise typer.Exit(_output_lost(error)) from None
        return result


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
main = app

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Out = Annotated[Path, typer.Option("--out", help="The folder of runs.", show_default=True)]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"gradlab {__version__}")
        raise typer.Exit(DONE)


@app.callback()
def gradlab(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """See what should happen to .grad between two optimizer steps: a run, a log and a picture."""


@app.command()
def run(
    experiment: Annotated[
        str | None,
        typer.Argument(help="A TOML file or a shipped experiment; without one and without --task, diverging_loss."),
    ] = None,
    mode: Annotated[
        list[str] | None, typer.Option("--mode", "-m", help="What happens to .grad; see `gradlab modes`.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="A built-in task, FILE.py:NAME or package.module:NAME.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="Any of torch.optim by its class name, or vanilla.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    steps: Annotated[int | None, typer.Option(help="Backward passes to train for.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the batches to train for.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="The task's option batch_size.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seed of a run; give several for a band.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of the experiment file.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="What trains: loop (torch), or tensorflow by tf.GradientTape.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Where to train: cpu, cuda, mps.")] = None,
    out: Out = Path("runs"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Train again what is done.")] = False,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="The answer only: no progress, no hints.")] = False,
) -> None:
    """Train one model under several modes and compare: same weights, same batches."""
    from gradlab import experiment as experiments
    from gradlab.experiment import Override

    given: list[tuple[tuple[str, ...], object, str]] = [
        (("task",), task, "--task"),
        (("modes",), mode, "--mode"),
        (("optimizer", "name"), optimizer, "--optimizer"),
        (("optimizer", "lr"), lr, "--lr"),
        (("steps",), steps, "--steps"),
        (("epochs",), epochs, "--epochs"),
        (("task_options", "batch_size"), batch_size, "--batch-size"),
        (("seeds",), seed, "--seed"),
        (("engine",), engine, "--engine"),
        (("device",), device, "--device"),
    ]
    overrides = [Override(*each) for each in given if each[1] not in (None, [])]
    overrides += [Override.parse(text) for text in set_ or []]
    if task and experiment is None:
        chosen = experiments.from_task(task, overrides)
    else:
        chosen = experiments.load(experiments.DEFAULT if experiment is None else experiment, overrides)
    outcome = _run(chosen, out, fresh=fresh, talk=not (json or quiet))
    if json:
        _print_json(_outcome_json(outcome))
    else:
        _show_outcome(outcome, quiet=quiet)
    raise typer.Exit(DONE if outcome.ok else FAILED)


def _run(chosen: Experiment, out: Path, *, fresh: bool, talk: bool) -> Outcome:
    from gradlab import runs
    from gradlab.signals import SignalledError, Signals

    watcher = _watcher(len(chosen.modes) * len(chosen.seeds)) if talk else None
    stop = runs.Stop()
    signals = Signals(stop)
    try:
        with signals:
            try:
                with redirect_stdout(sys.stderr):  # what a user's task prints is talk
                    return runs.run(chosen, out, fresh=fresh, watcher=watcher, stop=stop)
            finally:
                if watcher:
                    watcher.close()
    except runs.StoppedError as stopped:
        raise _Stopped(str(stopped), signals.status) from None
    except SignalledError:
        raise _Stopped("stopped; the same command trains what is missing", signals.status) from None


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
    """Draw the loss of each mode."""
    from gradlab import store

    runs = _runs_at(folders)
    files = output or [store.ExperimentFolder(runs[0].path.parent).picture_file]
    from gradlab import plotting

    plotting.check_formats(files)
    records = list(_read(runs))
    lacking = plotting.without_theory(records) if theory else []
    figure = plotting.draw(records, axis=x, title=title, width=width, theory=theory)
    for file in files:
        store.write_bytes(file, plotting.rendered(figure, file.suffix))
        if not quiet:
            _answer(file)
    for reason in lacking:
        _say(reason)
    for record, rows in records:
        if record.status != "done":
            _say(f"{record.mode} seed {record.seed} is not whole: {record.status}, {len(rows)} rows")


@app.command(name="list")
def list_(out: Out = Path("runs"), json: Json = False) -> None:
    """List the runs there are, the experiment run last first."""
    from gradlab import store

    runs = [run for experiment in store.experiments(out) for run in experiment.runs()]
    found, damaged, lacking = [], [], []
    for each in runs:
        try:
            record, lack = each.standing(each.read())
            found.append((each, record))
            lacking += [lack] if lack else []
        except GradlabError as error:
            damaged.append(str(error))
    if json:
        keys = ("experiment", "mode", "seed", "status", "rows", "started", "seconds")
        listed = [{key: getattr(record, key) for key in keys} | {"folder": str(run.path)} for run, record in found]
        _print_json({"runs": listed} | ({"damaged": damaged} if damaged else {}))
    elif found:
        from gradlab.terminal import run_list

        console = _console()
        console.print(run_list([record for _, record in found], console.width))
    elif not damaged:
        _say(f"no runs under {out}; `gradlab run` makes some")
    _tell(lacking)
    if damaged and json:
        raise typer.Exit(AT_FAULT)
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        raise GradlabError(damaged[0] + more)


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(help="A run, or an experiment's folder.")],
    json: Json = False,
) -> None:
    """Show what a run or an experiment was and what came of it."""
    from gradlab.results import result_of
    from gradlab.terminal import epoch_lines, table_of

    runs = _runs_at([folder])
    results = [result_of(run, cached=True) for run in runs]
    record = runs[0].read()
    if json:
        _print_json(
            {"experiment": record.experiment, "folder": str(folder), "runs": [_result_json(each) for each in results]}
        )
        return
    console = _console()
    _answer(f"{record.experiment}: {record.title}" if record.title else record.experiment)
    for key, value in record.settings.items():
        if key not in ("mode", "seed") and value not in (None, {}):
            _answer(f"  {key}: {_plain(value)}")
    _answer(f"  {record.started}, " + ", ".join(f"{name} {version}" for name, version in record.versions.items()))
    print()
    for line in epoch_lines(results):
        _answer(line)
    console.print(table_of(results, console.width))
    for error in _by_error(results):
        _say(error)
    for each in results:
        _tell(each.damaged)


@app.command()
def export(
    folders: Annotated[list[Path], typer.Argument(help="Runs or experiments.")],
    to: Annotated[str, typer.Option(help="The format: csv.")] = "csv",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write here instead of to stdout.")] = None,
) -> None:
    """Write the rows for other tools; floats are written so that they round-trip."""
    from gradlab import store
    from gradlab.errors import StoreError, unknown

    if to != "csv":
        raise StoreError(unknown("format", to, ["csv"]))
    lines = store.csv_of(_read(_runs_at(folders)))
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
        toml = experiment.text_of(experiment.locate(name))
        if json:
            _print_json({"name": name, "toml": toml})
        else:
            _answer(toml, end="")
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

    chosen, findings = claims.chosen(only), []
    console = _console()
    for nth, claim in enumerate(chosen, 1):
        try:
            with nullcontext() if json or quiet else _telling(f"claim {nth}/{len(chosen)} {claim.name}"):
                finding = claims.measure(claim)
        except KeyboardInterrupt:
            raise _Stopped("interrupted", INTERRUPTED) from None
        findings.append(finding)
        if not json:
            from gradlab.terminal import finding_block

            console.print(finding_block(finding))
    if json:
        keys = ("name", "statement", "answer", "figures", "ok")
        _print_json({"claims": [{key: getattr(each, key) for key in keys} for each in findings]})
    else:
        from gradlab.terminal import findings_line

        console.print(findings_line(findings))
    raise typer.Exit(DONE if all(finding.ok for finding in findings) else FAILED)


@app.command(
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": False},
    epilog="What comes after SCRIPT is the script's own, options too.",
)
def audit(
    script: Annotated[str, typer.Argument(metavar="SCRIPT.py", help="The script to run; with -m, a module.")],
    args: Annotated[list[str] | None, typer.Argument(metavar="[ARGS]...", help="The script's own arguments.")] = None,
    module: Annotated[bool, typer.Option("-m", help="SCRIPT is the name of a module: package.module.")] = False,
    sample: Annotated[
        int | None, typer.Option(help="Measure at every N-th update; default: the first 8, then 1 in 23.", min=1)
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout; the script's goes to stderr.")
    ] = False,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="Exit 0 whatever is found.")] = False,
) -> None:
    """Run your training script and say what it does with its gradients."""
    from gradlab.audit.command import Streams
    from gradlab.audit.command import audit as audited
    from gradlab.store import strict_json

    def write(report: Report, status: int) -> None:
        if json:
            document = report.as_json(script, status)
            streams.answer(strict_json(document, indent=2, ascii_only=True) + "\n")
        else:
            for line in report.lines(_width_of_stderr()):
                streams.tell(printable(line))

    streams = Streams(aside=json)
    try:
        status = audited(script, args or [], write, is_module=module, sample=sample, strict=not exit_zero)
    finally:
        streams.restore()
    raise typer.Exit(status)


def _width_of_stderr() -> int:
    from rich.console import Console

    return Console(stderr=True).width


def _telling(what: str) -> AbstractContextManager[object]:
    """Say what is being done: on a terminal for as long as it lasts, elsewhere as a line."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        return console.status(what)
    _say(what)
    return nullcontext()


# Showing


def _show_outcome(outcome: Outcome, *, quiet: bool) -> None:
    from gradlab.terminal import epoch_lines, expectation_lines, table_of

    console = _console()
    if not quiet:
        for line in epoch_lines(outcome.runs):
            _answer(line)
    console.print(table_of(outcome.runs, console.width))
    for expectation in expectation_lines(outcome.expectations):
        console.print(expectation)
    for error, failed in _by_error(outcome.runs).items():
        _say(f"{', '.join(f'{run.mode} seed {run.seed}' for run in failed)} failed:\n{error}")
    _answer(f"logs: {outcome.folder}")
    if quiet:
        return
    before = sum(run.cached for run in outcome.runs)
    if before:
        _say(f"{before} of {len(outcome.runs)} runs were done before and not trained again (--fresh does)")
    _say(f"picture: gradlab plot {outcome.folder}")


def _by_error(runs: list[Result]) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for run in runs:
        if run.error:
            found.setdefault(run.error, []).append(run)
    return found


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "experiment": outcome.experiment,
        "folder": str(outcome.folder),
        "runs": [_result_json(run) for run in outcome.runs],
        "expectations": [each._asdict() for each in outcome.expectations],
    }


def _result_json(result: Any) -> dict[str, Any]:
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
        _print_json({kind: [{"name": name, "what": what} for name, what in words.items()]})
        return
    from gradlab.terminal import word_list

    _console().print(word_list(words))


def _print_json(document: object) -> None:
    from gradlab.store import strict_json

    print(strict_json(document, indent=2, ascii_only=True))


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False)


def _answer(text: object, end: str = "\n") -> None:
    print(printable(text), end=end)


def _say(text: str) -> None:
    """Say it on stderr; where nobody listens, the work goes on."""
    try:
        print(printable(text), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _drop(sys.stderr)


def _plain(value: object) -> str:
    return ", ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, dict) else str(value)


def _watcher(runs: int) -> Bar | Lines:
    from rich.console import Console

    from gradlab.progress import Bar, Lines

    console = Console(stderr=True)
    moving = console.is_terminal and sys.stderr and sys.stderr.isatty()  # FORCE_COLOR makes no terminal of a log file
    return Bar(console, runs) if moving else Lines(_say, runs)


# Reading


def _runs_at(folders: list[Path] | None) -> list[RunFolder]:
    from gradlab import store

    given = folders or [store.RUNS]
    if len(given) > 1:  # runs/NAME/* matches files of ours too
        given = [folder for folder in given if not folder.is_file()]
    return list(dict.fromkeys(run for folder in given for run in store.runs_at(folder)))


def _read(runs: Iterable[RunFolder]) -> Iterator[tuple[RunRecord, list[Row]]]:
    """Yield the record and the rows of each run; tell of damaged lines and go on without them."""
    for run in runs:
        record, logged = run.read(), run.rows()
        record, lack = run.standing(record, logged)
        _tell(logged.damaged)
        _tell([lack] if lack else [])
        yield record, logged.rows


def _tell(messages: Sequence[str], most: int = 3) -> None:
    for nth, message in enumerate(messages[:most], 1):
        more = len(messages) - most
        _say(f"{message} (and {more} more)" if nth == most and more > 0 else message)


# Ending


def _hold_standard_streams() -> None:
    """Open what the caller has closed, or the first file that is opened takes its number and what is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _output_lost(error: OSError) -> int:
    """Say why stdout does not take the answer, unless its reader has seen enough; return the exit status."""
    _drop(sys.stdout)
    if isinstance(error, BrokenPipeError):
        return PIPE_CLOSED
    _say(f"standard output: {error.strerror or error}")
    return AT_FAULT


def _drop(stream: TextIO) -> None:
    """Let Python find nothing to complain of when it flushes the stream at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _fail(message: str, status: int, *, as_json: bool) -> int:
    if as_json:
        _print_json({"error": {"message": message, "exit_status": status}})
    else:
        _say(message)
    return status
