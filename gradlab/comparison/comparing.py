"""Compares a script under several modes: first as it is written, then with each mode imposed, always from one start."""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import store
from gradlab.analysis.results import Result, result_of
from gradlab.comparison import copies
from gradlab.comparison.job import ScriptJob, ScriptOutcome
from gradlab.comparison.processes import ScriptProcess, Surroundings
from gradlab.comparison.request import AS_WRITTEN, CompareRequest
from gradlab.errors import CompareError, GradlabError, printable
from gradlab.experiment import identity
from gradlab.runs import Progress, Stop, StoppedError
from gradlab.store import RunFolder, RunRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradlab.modes import Mode

REPEATED = 200  # updates of as_written that are run once more
POLLED = 0.05  # seconds between two looks at running children
APPROXIMATE = 0.9  # from this share of steps on, a mode was imposed approximately
LONGEST_ERROR = 4000  # characters of a traceback in a record


class ComparedRun(NamedTuple):
    """The result of one run of the script, and whether its mode was imposed."""

    result: Result
    compared: Mapping[str, Any]  # imposed, imposed_share, imposed_reason; for as_written: measured
    record: RunRecord


class Comparison(NamedTuple):
    """The runs of a script, and what was found about it.

    Attributes:
        script: as given.
        folder: of the runs.
        runs: by mode, as_written first, then by seed.
        notes: what a reader must know, such as that the script seeds itself.
        faults: why the runs must not be compared.
    """

    script: str
    folder: Path
    runs: list[ComparedRun]
    notes: list[str]
    faults: list[str]

    @property
    def ok(self) -> bool:
        """Whether all runs are done, all modes were imposed, and all runs began alike."""
        imposed = all(run.compared.get("imposed") != "no" for run in self.runs)
        return imposed and not self.faults and all(run.result.status == "done" for run in self.runs)


class _Plan(NamedTuple):
    mode: Mode | None
    seed: int
    folder: RunFolder
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        return AS_WRITTEN if self.mode is None else self.mode.name


def compare(
    request: CompareRequest,
    out: Path = store.RUNS,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Comparison:
    """Run the script as it is written and under every mode, and compare the runs.

    Raises:
        StoppedError: a stop was requested; finished runs are kept.
        CompareError: no mode can be imposed on the script, or its folder cannot be copied.
        NothingComparedError: the script exited with 0, and no optimizer took a step.
    """
    return _Comparing(request, out, progress or Progress(), stop or Stop()).run()


class NothingComparedError(GradlabError):
    """The script exited with 0, and no optimizer took a step."""


class _Comparing:
    """A comparison under way."""

    def __init__(self, request: CompareRequest, out: Path, progress: Progress, stop: Stop) -> None:
        self.request, self.progress, self.stop = request, progress, stop
        if not request.in_place:
            copies.check_size(request.script.folder)
        self.folder = store.experiment_folder(out, request.script.stem)
        self.notes: list[str] = []
        self.faults: list[str] = []
        self.done: dict[Path, ComparedRun] = {}

    def run(self) -> Comparison:
        request = self.request
        first = self._plan(None, request.seeds[0])
        self._train([first])
        written = self.done[first.folder.path]
        self._check_first(written)
        seeds = list(request.seeds)
        if written.result.rows:
            self._repeat(written)
            seeds = self._distinct_seeds(written)
            total = (1 + len(request.modes)) * len(seeds)
            self._announce(total, written)
            plans = [self._plan(mode, seed) for seed in seeds for mode in (None, *request.modes)]
            self._train([plan for plan in plans if plan.folder.path not in self.done], written)
        self._check_alike()
        order = {name: nth for nth, name in enumerate(request.mode_names)}
        runs = sorted(self.done.values(), key=lambda run: (order[run.result.mode], run.result.seed))
        return Comparison(request.script.name, self.folder.path, runs, self.notes, self.faults)

    def _plan(self, mode: Mode | None, seed: int) -> _Plan:
        settings = self.request.settings(mode, seed)
        name = AS_WRITTEN if mode is None else mode.name
        return _Plan(mode, seed, self.folder.run(name, seed, identity(settings)), settings)

    # What as_written shows

    def _check_first(self, written: ComparedRun) -> None:
        result = written.result
        if why := written.compared.get("refused"):
            shutil.rmtree(result.folder, ignore_errors=True)
            self.folder.drop_if_empty()
            raise CompareError(f"{self.request.script.name} cannot be compared: {why}.")
        if result.status == "done" and not result.updates:
            raise NothingComparedError(
                f"{self.request.script.name} exited with 0, and no optimizer took a step, so nothing was compared. "
                "Does it train in another process, or only evaluate?"
            )
        passes = written.compared["measured"].get("passes") or 1
        for mode in self.request.modes:
            if mode.every > 1 and passes > 1:
                raise CompareError(
                    f"mode '{mode.name}' needs a script that steps after every backward pass; "
                    f"{self.request.script.name} accumulates {passes} passes per step"
                )

    def _repeat(self, written: ComparedRun) -> None:
        """Run as_written once more for its first updates, and note from which step it differs."""
        if "repeated" in written.compared:
            return
        rows = [row.loss for row in written.result.rows]
        with tempfile.TemporaryDirectory(prefix="gradlab-") as kept:
            file = Path(kept) / "metrics.jsonl"
            plan = self._plan(None, written.result.seed)
            self._finish(self._start(plan, file, most_updates=REPEATED))
            again = [row.loss for row in RunFolder(Path(kept)).rows().rows]
        differs = next((nth for nth, (a, b) in enumerate(zip(rows, again, strict=False)) if not _same(a, b)), None)
        if differs is not None:
            self.notes.append(
                f"The script is not deterministic: a second run differs from step {differs} on, by "
                f"{_spread(rows, again):.2g} in the last common step. Differences of this size mean nothing."
            )

    def _distinct_seeds(self, written: ComparedRun) -> list[int]:
        """Return the seeds to run: only the first if the script seeds itself."""
        seeds = list(self.request.seeds)
        if len(seeds) < 2:
            return seeds
        plan = self._plan(None, seeds[1])
        self._train([plan], unlike=written)
        if plan.folder.path in self.done:
            return seeds
        self.notes.append(
            f"The script seeds itself: all seeds give the same initial weights. Only seed {seeds[0]} was run."
        )
        return seeds[:1]

    def _announce(self, total: int, written: ComparedRun) -> None:
        missing = total - len(self.done)
        seconds = (written.result.seconds or 0) * missing / self.request.jobs
        if missing:
            self.progress.on_message(f"{total} runs; the other {missing} take about {_duration(seconds)}.")

    def _check_alike(self) -> None:
        """Note runs that did not begin with the weights and the first loss of the unmodified script."""
        by_seed: dict[int, list[ComparedRun]] = {}
        for run in self.done.values():
            by_seed.setdefault(run.result.seed, []).append(run)
        for seed, runs in by_seed.items():
            first = next((run for run in runs if run.result.mode == AS_WRITTEN), runs[0])
            for run in runs:
                name = f"{run.result.mode} seed {seed}"
                if not run.result.rows or not first.result.rows:
                    continue
                if run.record.weights != first.record.weights:
                    self.faults.append(f"{name} did not begin with the weights of {AS_WRITTEN}: the script is random.")
                elif not _same(run.result.rows[0].loss, first.result.rows[0].loss):
                    self.faults.append(f"{name} did not begin with the loss of {AS_WRITTEN}: the batches are random.")
                elif run is not first and run.result.mode == first.compared.get("measured", {}).get("mode"):
                    self._check_harmless(run, first)

    def _check_harmless(self, run: ComparedRun, first: ComparedRun) -> None:
        """Where as_written was measured to be this mode, imposing it must change nothing."""
        losses = [[row.loss for row in each.result.rows] for each in (run, first)]
        differs = next((nth for nth, pair in enumerate(zip(*losses, strict=False)) if not _same(*pair)), None)
        if differs is not None and not any("not deterministic" in note for note in self.notes):
            self.faults.append(
                f"{run.result.mode} seed {run.result.seed} differs from {AS_WRITTEN} from step {differs} on, "
                "though the script was measured to have this mode."
            )

    # Running

    def _train(
        self, plans: Sequence[_Plan], written: ComparedRun | None = None, *, unlike: ComparedRun | None = None
    ) -> None:
        """Run all plans that are not finished, at most `jobs` at the same time."""
        waiting = []
        for plan in plans:
            if (found := self._finished(plan)) is not None:
                self._add(plan, found, cached=True)
            else:
                waiting.append(plan)
        running: list[_Running] = []
        most = self._most_passes(written)
        try:
            while waiting or running:
                if self.stop.requested:
                    raise StoppedError("stopped; the same command runs what is missing")
                while waiting and len(running) < (1 if self.request.in_place else self.request.jobs):
                    plan = waiting.pop(0)
                    weights = unlike.record.weights if unlike is not None else ""
                    self.progress.on_start(f"{plan.name} seed {plan.seed}", 1, None)
                    running.append(self._start(plan, plan.folder.rows_file, most_passes=most, unlike=weights))
                time.sleep(POLLED)
                for each in [one for one in running if self._has_ended(one)]:
                    running.remove(each)
                    self._end(each)
        finally:
            for each in running:
                each.process.end()
                each.stack.close()

    def _most_passes(self, written: ComparedRun | None) -> int | None:
        limits = [self.request.most_passes, None if written is None else 2 * written.result.steps]
        return min((each for each in limits if each is not None), default=None)

    def _finished(self, plan: _Plan) -> RunRecord | None:
        """Return the record of the plan's run if it is finished and its sources are still the same."""
        if self.request.fresh:
            return None
        try:
            record, _ = plan.folder.verified_record(plan.folder.read())
        except GradlabError:
            return None
        sources = record.compared.get("sources", {})
        same = all(_hash_of(self.request.script.folder / name) == found for name, found in sources.items())
        return record if record.status == "done" and same and _without_sources(record) == plan.settings else None

    def _start(
        self,
        plan: _Plan,
        rows_file: Path,
        *,
        most_passes: int | None = None,
        most_updates: int | None = None,
        unlike: str = "",
    ) -> _Running:
        request, script = self.request, self.request.script
        plan.folder.make()
        stack = ExitStack()
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gradlab-", ignore_cleanup_errors=True)))
        folder = script.folder
        if not request.in_place:
            folder = scratch / script.folder.name if script.folder.name else scratch / "copy"
            copies.copy_folder(script.folder, folder)
        if rows_file == plan.folder.rows_file:
            plan.folder.write(self._record(plan))
        job = ScriptJob(
            script=script.at,
            args=list(request.args),
            is_module=script.is_module,
            mode=None if plan.mode is None else plan.mode.name,
            mode_folder=str(Path.cwd()),
            seed=plan.seed,
            threads=request.threads,
            rows_file=str(rows_file.absolute()),
            outcome_file=str(scratch / "outcome.json"),
            only=request.only,
            most_passes=most_passes,
            most_updates=most_updates,
            unlike_weights=unlike,
        )
        job.write(scratch / "job.json")
        around = Surroundings(plan.name, plan.seed, plan.folder.path.absolute(), request.threads)
        outputs = rows_file.with_name("stdout.txt"), rows_file.with_name("stderr.txt")
        process = ScriptProcess(scratch / "job.json", folder, *outputs, around.environment())
        return _Running(plan, process, stack, scratch, folder, outputs)

    def _record(self, plan: _Plan) -> RunRecord:
        return RunRecord(
            experiment=self.request.script.stem,
            title="",
            mode=plan.name,
            seed=plan.seed,
            identity=identity(plan.settings),
            settings=plan.settings,
            status="running",
            started=store.now(),
            modes=self.request.mode_names,
            match_lr=False,
        )

    def _has_ended(self, running: _Running) -> bool:
        if running.process.status() is not None:
            return True
        if self.request.timeout is not None and running.process.seconds > self.request.timeout:
            running.process.end()
            return True
        return False

    def _finish(self, running: _Running) -> tuple[ScriptOutcome, str]:
        """Wait for a child; return its report, and why it failed, "" if it did not."""
        try:
            while not self._has_ended(running):
                if self.stop.requested:
                    raise StoppedError("stopped; the same command runs what is missing")
                time.sleep(POLLED)
            return running.outcome(self.request)
        finally:
            running.process.end()
            running.stack.close()

    def _end(self, running: _Running) -> None:
        plan = running.plan
        outcome, error = self._finish(running)
        if outcome.ended and not outcome.passes:  # its weights are those of the first seed
            shutil.rmtree(plan.folder.path, ignore_errors=True)
            return
        rows = plan.folder.rows()
        digest = outcome.rows_sha256 or rows.sha256
        record = replace(
            self._record(plan),
            status="failed" if error else "done",
            error=error,
            weights=outcome.weights,
            versions=outcome.versions,
            seconds=outcome.seconds or running.process.seconds,
            rows=None if error else outcome.rows,
            rows_sha256="" if error else digest,
            compared=_compared(plan, outcome, running),
        )
        plan.folder.write(record)
        self._add(plan, record, cached=False)

    def _add(self, plan: _Plan, record: RunRecord, *, cached: bool) -> None:
        result = result_of(plan.folder, cached=cached)
        if record.status == "failed":  # rows so far are judged
            from gradlab.analysis import curves

            result = result._replace(verdict=curves.summarise(result.rows).verdict if result.rows else None)
        self.done[plan.folder.path] = ComparedRun(result, record.compared, record)
        self.progress.on_end(result)


class _Running(NamedTuple):
    """A child under way."""

    plan: _Plan
    process: ScriptProcess
    stack: ExitStack
    scratch: Path
    folder: Path  # the copy that it works in
    outputs: tuple[Path, Path]

    def outcome(self, request: CompareRequest) -> tuple[ScriptOutcome, str]:
        """Return what the child reported, and why it failed."""
        try:
            outcome = ScriptOutcome.read(self.scratch / "outcome.json")
        except (OSError, ValueError, TypeError):
            outcome = ScriptOutcome(self.process.status() or 1)
        status = self.process.status()
        if request.timeout is not None and self.process.seconds > request.timeout and status != 0:
            return outcome, f"ended after {_duration(request.timeout)} (--timeout)"
        if outcome.refused or outcome.status == 0:
            return outcome, ""
        text = self.output(1, request).strip()
        return outcome, text[-LONGEST_ERROR:] or f"exit status {status}"

    def output(self, which: int, request: CompareRequest) -> str:
        """Return stdout (0) or stderr (1), with the user's folder in place of the copy."""
        with suppress(OSError):
            text = self.outputs[which].read_text(encoding="utf-8", errors="replace")
            return printable(text.replace(str(self.folder), str(request.script.folder)))
        return ""


def _compared(plan: _Plan, outcome: ScriptOutcome, running: _Running) -> dict[str, Any]:
    """Return what the record says of a run of a script."""
    last = next((line for line in reversed(running.outputs[0].read_text("utf-8", "replace").splitlines()) if line.strip()), "")
    found: dict[str, Any] = {"last_line": printable(last)[:500], "sources": outcome.sources}
    if outcome.refused:
        found["refused"] = outcome.refused
    if plan.mode is None:
        single = outcome.optimizers[0] if outcome.optimizers else {}
        alike = all((each["mode"], each["keep"]) == (single["mode"], single["keep"]) for each in outcome.optimizers)
        measured = {key: single.get(key) if alike else None for key in ("mode", "keep", "passes")}
        return found | {"measured": measured}
    judged = outcome.good + sum(outcome.faults.values())
    share = outcome.good / judged if judged else 0.0
    reason = max(outcome.faults, key=lambda why: outcome.faults[why]) if outcome.faults else "; ".join(outcome.doubts)
    how = "yes" if share == 1 and not outcome.doubts else "approximate" if share >= APPROXIMATE else "no"
    if not judged:
        reason = "no optimizer took a step"
    return found | {"imposed": how, "imposed_share": share, "imposed_reason": reason}


def _without_sources(record: RunRecord) -> dict[str, Any]:
    return dict(record.settings)


def _hash_of(file: Path) -> str:
    with suppress(OSError):
        return hashlib.sha256(file.read_bytes()).hexdigest()
    return ""


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _spread(these: Sequence[float], those: Sequence[float]) -> float:
    pairs = list(zip(these, those, strict=False))
    return abs(pairs[-1][0] - pairs[-1][1]) if pairs else 0.0


def _duration(seconds: float) -> str:
    """Return a time in words.

    >>> _duration(42.3), _duration(600)
    ('42 s', '10 min')
    """
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
