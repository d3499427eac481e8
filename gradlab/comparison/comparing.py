"""Compares a script under several modes: first as it is written, then with each mode imposed, from one start."""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gradlab import store
from gradlab.comparison import judging, records
from gradlab.comparison.copies import Source
from gradlab.comparison.request import AS_WRITTEN, CompareRequest
from gradlab.comparison.running import Runner, ScriptTask
from gradlab.errors import CompareError, NothingComparedError, shortened
from gradlab.runs import Progress, Stop
from gradlab.store import RunFolder
from gradlab.wording import counted, duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gradlab.analysis.results import Result
    from gradlab.comparison.job import ScriptOutcome
    from gradlab.comparison.records import ComparedRun
    from gradlab.comparison.request import ScriptPlan
    from gradlab.modes import Mode
    from gradlab.store import RunRecord

REPEATED = 200  # updates of the unmodified script that are run once more
PASSES = 2  # times those of the unmodified script: the most that another run may take
NAMED = 3  # files that changed in place are named


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
    runs: list[Result]
    notes: list[str]
    faults: list[str]

    @property
    def ok(self) -> bool:
        """Whether all runs are done, all modes were imposed, and all runs began alike."""
        done = all(run.status == "done" and run.compared.get("imposed") != "no" for run in self.runs)
        return done and not self.faults


def compare(
    request: CompareRequest,
    out: Path = store.RUNS,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Comparison:
    """Run the script as it is written and under every mode, and compare the runs.

    Finished runs are reused unless the request says `fresh`. If a run fails, the others are still run, unless the
    unmodified script fails before it trains.

    Raises:
        StoppedError: a stop was requested; finished runs are kept.
        CompareError: no mode can be imposed on the script, or its folder cannot be copied.
        NothingComparedError: the script exited with 0, and no optimizer took a step.
        StoreError: another process compares the same script with the same arguments.
    """
    source = Source(request.script.folder, out)
    if not request.in_place:
        source.check_size(request.jobs)
    before = source.fingerprint() if request.in_place else {}
    folder = store.experiment_folder(out, request.script.stem)
    comparing = _Comparing(request, folder, Runner(request, source, progress or Progress(), stop or Stop()))
    try:
        with folder.locked(request.identity):
            runs = comparing.run()
    finally:
        folder.drop_if_empty()
    notes = [*comparing.notes, *_changes(before, source.fingerprint() if request.in_place else {})]
    order = {name: nth for nth, name in enumerate(request.mode_names)}
    runs.sort(key=lambda run: (order[run.plan.name], run.plan.seed))
    results = [run.result for run in runs]
    return Comparison(request.script.name, folder.path, results, notes, judging.faults_of(runs))


class _Probe(NamedTuple):
    """The first steps of the unmodified script, run once more."""

    losses: list[float]
    outcome: ScriptOutcome


class _Comparing:
    """A comparison under way."""

    def __init__(self, request: CompareRequest, folder: store.ExperimentFolder, runner: Runner) -> None:
        self.request, self.folder, self.runner = request, folder, runner
        self.notes: list[str] = []
        self._done: dict[Path, ComparedRun] = {}  # by folder

    def run(self) -> list[ComparedRun]:
        """Run what is missing, and return all runs."""
        first = self._plan(None, self.request.seeds[0])
        repeat = None
        if any(mode.every > 1 for mode in self.request.modes) and not self._is_finished(first):
            repeat = self._probe(first, updates=REPEATED)  # says early whether the script accumulates itself
        written = self._written(first)
        if not records.updates_of(written):
            return [written]
        self._refuse_accumulation(written.record.compared.get("optimizers", []))
        self._announce(written)
        if "repeat" not in written.record.compared:
            probe = repeat or self._probe(first, updates=REPEATED)
            written = self._note(written, repeat=judging.repeated(written, probe.losses, probe.outcome))
        plans = self._plans(self._distinct_seeds(written))
        missing = [plan for plan in plans if not self._is_finished(plan)]
        for plan in missing:  # of an earlier version of the script's files
            plan.folder.remove()
        most = min(filter(None, [self.request.most_passes, PASSES * written.result.steps]))
        self._train(missing, most, written.result.steps)
        runs = [self._done[plan.folder.path] for plan in plans]
        if all(run.result.cached for run in runs):
            self.folder.save_request([plan.folder for plan in plans], self.request.mode_names, match_lr=False)
        self._note_ends(runs)
        if note := judging.determinism_note(written):
            self.notes.append(note)
        return runs

    def _plans(self, seeds: Iterable[int]) -> list[ScriptPlan]:
        return [self._plan(mode, seed) for seed in seeds for mode in (None, *self.request.modes)]

    def _plan(self, mode: Mode | None, seed: int) -> ScriptPlan:
        return self.request.plan(mode, seed, self.folder)

    # The script as it is written

    def _written(self, plan: ScriptPlan) -> ComparedRun:
        """Return the run of the unmodified script.

        Raises:
            CompareError: no mode can be imposed on it.
            NothingComparedError: it exited with 0, and no optimizer took a step.
        """
        if self._is_finished(plan):
            return self._done[plan.folder.path]
        self._train([plan], self.request.most_passes)
        written = self._done[plan.folder.path]
        if written.record.status == "done" and not records.updates_of(written):
            plan.folder.remove()
            ended = written.record.compared["ended"]
            how = f"ran for {counted(written.result.steps, 'step')}" if ended else "exited with 0"
            raise NothingComparedError(
                f"{shortened(self.request.script.name)} {how}, and no optimizer took a step, so nothing was compared. "
                "Does it train in another process, or only evaluate?"
            )
        return written

    def _refuse(self, outcome: ScriptOutcome) -> None:
        if outcome.refused:
            raise CompareError(f"{shortened(self.request.script.name)} cannot be compared: {outcome.refused}.")

    def _refuse_accumulation(self, optimizers: Iterable[dict[str, object]]) -> None:
        mode = next((mode.name for mode in self.request.modes if mode.every > 1), "")
        for each in optimizers if mode else ():
            passes = each.get("passes")
            if isinstance(passes, int) and passes > 1:
                raise CompareError(
                    f"mode '{mode}' needs a script that steps after every backward pass, but "
                    f"{shortened(self.request.script.name)} accumulates {passes} passes per step itself"
                )

    def _probe(self, plan: ScriptPlan, *, updates: int | None = None, passes: int | None = None) -> _Probe:
        """Run the unmodified script once more for its first updates or passes, without a record."""
        with tempfile.TemporaryDirectory(prefix="gradlab-") as kept:
            into = RunFolder(Path(kept))
            task = ScriptTask(plan, into, passes or self.request.most_passes, updates)
            with closing(self.runner.run([task])) as ending:
                ((_, end),) = ending
            self._refuse(end.outcome)
            self._refuse_accumulation(end.outcome.optimizers)
            return _Probe([row.loss for row in into.rows().rows], end.outcome)

    def _distinct_seeds(self, written: ComparedRun) -> tuple[int, ...]:
        """Return the seeds to run: only the first if the script seeds itself."""
        seeds = self.request.seeds
        if len(seeds) == 1:
            return seeds
        if "seeds_itself" not in written.record.compared:
            weights = self._probe(self._plan(None, seeds[1]), passes=1).outcome.weights
            written = self._note(written, seeds_itself=weights == written.record.weights)
        if not written.record.compared["seeds_itself"]:
            return seeds
        self.notes.append(
            f"The script seeds itself: seeds {seeds[0]} and {seeds[1]} give the same initial weights. "
            f"Only seed {seeds[0]} was run."
        )
        self.runner.progress.on_runs(1 + len(self.request.modes))
        return seeds[:1]

    def _note(self, written: ComparedRun, **found: object) -> ComparedRun:
        """Add to the record of the unmodified script."""
        record = replace(written.record, compared={**written.record.compared, **found})
        written.plan.folder.write(record)
        noted = written._replace(record=record, result=written.result._replace(compared=record.compared))
        self._done[written.plan.folder.path] = noted
        return noted

    def _announce(self, written: ComparedRun) -> None:
        """Say how many runs there are, and how long the others take."""
        plans = self._plans(self.request.seeds)
        missing = sum(not self._is_finished(plan) for plan in plans)
        if missing and written.result.seconds:
            at_once = 1 if self.request.in_place else min(self.request.jobs, missing)
            left = duration(written.result.seconds * missing / at_once)
            self.runner.progress.on_message(f"{counted(len(plans), 'run')}; the {missing} left take about {left}.")

    def _note_ends(self, runs: list[ComparedRun]) -> None:
        """Note which runs a limit ended that --max-steps did not set."""
        for run in runs:
            steps = run.result.steps
            if run.plan.mode is not None and run.record.compared.get("ended") and steps != self.request.most_passes:
                self.notes.append(
                    f"{run.plan.title} was ended after {steps} steps, {PASSES} times those of {AS_WRITTEN}."
                )

    # Runs

    def _is_finished(self, plan: ScriptPlan) -> bool:
        if plan.folder.path not in self._done and records.is_finished(self.request, plan):
            self._end(plan, cached=True)
        return plan.folder.path in self._done

    def _train(self, plans: list[ScriptPlan], most: int | None, steps: int | None = None) -> None:
        """Run these plans, and record each when it has ended."""
        started: dict[Path, RunRecord] = {}

        def tasks() -> Iterator[ScriptTask]:
            for plan in plans:
                started[plan.folder.path] = record = records.new_record(self.request, plan)
                plan.folder.make()
                plan.folder.write(record)
                yield ScriptTask(plan, plan.folder, most)

        with closing(self.runner.run(tasks(), steps)) as ending:
            for task, end in ending:
                plan = task.plan
                if plan.mode is None and end.outcome.refused:
                    plan.folder.remove()
                    self._refuse(end.outcome)
                plan.folder.write(records.ended_record(plan, started[plan.folder.path], end))
                self._end(plan, cached=False)

    def _end(self, plan: ScriptPlan, *, cached: bool) -> None:
        run = self._done[plan.folder.path] = records.read_run(plan, cached=cached)
        self.runner.progress.on_end(run.result)


def _changes(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> list[str]:
    """Return what changed in the script's folder, in which all runs worked."""
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if not changed:
        return []
    named = ", ".join(map(shortened, changed[:NAMED])) + (", …" if len(changed) > NAMED else "")
    what = f"{counted(len(changed), 'file')} changed while the runs worked in the script's folder: {named}."
    return [f"{what} A run may have read what an earlier one wrote."]
