"""Compares a script under several modes: first as it is written, then with each mode imposed, from one start."""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from gradlab import store
from gradlab.comparison import judging, records
from gradlab.comparison.copies import Source
from gradlab.comparison.running import Runner, ScriptTask
from gradlab.errors import CompareError, NothingComparedError, shortened
from gradlab.modes import AS_WRITTEN
from gradlab.runs import Progress, Stop
from gradlab.store import RunFolder
from gradlab.wording import counted, duration, option

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gradlab.analysis.results import Result
    from gradlab.comparison.job import ScriptOutcome
    from gradlab.comparison.records import ComparedRun
    from gradlab.comparison.request import CompareRequest, ScriptPlan
    from gradlab.modes import Mode
    from gradlab.store import RunRecord

REPEATED = 200  # updates of the unmodified script that are run once more
PASSES = 2  # times those of the unmodified script: the most that another run may take
NAMED = 3  # files that changed in place, or links, are named


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
    source, progress = Source(request.script.folder, out, request.script.path), progress or Progress()
    if not request.in_place:
        source.check_size(request.jobs)
        if links := source.links_outside():
            progress.on_message(_shared(links))
    before = source.fingerprint() if request.in_place else {}
    folder = store.experiment_folder(out, request.script.stem)
    comparing = _Comparing(request, folder, Runner(request, source, progress, stop or Stop()))
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
        if not records.updates_of(written) or not written.result.steps:
            return [written]
        self._refuse_accumulation(written.record.compared.get("optimizers", []))
        plans = self._plans(self._distinct_seeds(written))
        written = self._done[first.folder.path]
        is_repeated = repeat is not None or "repeat" in written.record.compared
        self._announce(written, plans, 0 if is_repeated else min(1, REPEATED / records.updates_of(written)))
        if "repeat" not in written.record.compared:
            probe = repeat or self._probe(first, updates=REPEATED)
            written = self._note(written, repeat=judging.repeated(written, probe.losses, probe.outcome))
        missing = [plan for plan in plans if not self._is_finished(plan)]
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
            how = f"ran for {counted(written.result.steps, 'backward pass')}" if ended else "exited with 0"
            raise NothingComparedError(
                f"{shortened(self.request.script.name)} {how}, and no optimizer took a step, so nothing was compared. "
                "Does it train in another process, or only evaluate?"
            )
        if written.record.status == "done" and not written.result.steps:
            plan.folder.remove()
            self._refuse_because("its updates have no backward pass, so no losses can be compared")
        self._refuse_missing(plan, written.record.compared.get("optimizers", []))
        return written

    def _refuse(self, outcome: ScriptOutcome) -> None:
        if outcome.refused:
            self._refuse_because(outcome.refused)

    def _refuse_because(self, why: str) -> NoReturn:
        raise CompareError(f"{shortened(self.request.script.name)} cannot be compared: {why}.")

    def _refuse_missing(self, plan: ScriptPlan, optimizers: Iterable[dict[str, Any]]) -> None:
        """Refuse --only-optimizer for an optimizer that took no step."""
        only, numbers = self.request.only, [each.get("number") for each in optimizers]
        if only is None or not numbers or None in numbers or only in numbers:
            return
        plan.folder.remove()
        name = shortened(self.request.script.name)
        raise CompareError(
            f"{option('only_optimizer', only)}: {name} makes no update with optimizer {only}, "
            f"only with {' and '.join(map(str, numbers))}"
        )

    def _refuse_accumulation(self, optimizers: list[dict[str, Any]]) -> None:
        """Refuse a mode that accumulates on an optimizer that steps after several backward passes."""
        mode = next((mode.name for mode in self.request.modes if mode.every > 1), "")
        numbers = {self.request.only, None} if self.request.only else {each.get("number") for each in optimizers}
        chosen = [each for each in optimizers if each.get("number") in numbers] if mode else []
        several = [each for each in chosen if (each.get("passes") or 1) > 1]
        if not several:
            return
        needs = f"mode '{mode}' needs an update after every backward pass, but"
        name, passes = shortened(self.request.script.name), several[0]["passes"]
        if len(chosen) == 1:
            raise CompareError(f"{needs} {name} accumulates {passes} passes per update itself")
        others = [each["number"] for each in chosen if each.get("passes") == 1 and each.get("number")]
        hint = f". Try {option('only_optimizer', others[0])}." if others else ""
        which = f"optimizer {several[0].get('number') or ''}".strip()
        raise CompareError(f"{needs} {which} ({several[0]['class']}) of {name} has {passes} passes per update{hint}")

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
        self.runner.progress.on_run_count(1 + len(self.request.modes))
        return seeds[:1]

    def _note(self, written: ComparedRun, **found: object) -> ComparedRun:
        """Add to the record of the unmodified script."""
        record = replace(written.record, compared={**written.record.compared, **found})
        written.plan.folder.write(record)
        noted = written._replace(record=record, result=written.result._replace(compared=record.compared))
        self._done[written.plan.folder.path] = noted
        return noted

    def _announce(self, written: ComparedRun, plans: list[ScriptPlan], repeated: float) -> None:
        """Say how many runs there are, and how long the others take.

        `repeated` is the share of the first run that is run a second time.
        """
        missing = sum(not self._is_finished(plan) for plan in plans)
        if missing and written.result.seconds:
            at_once = 1 if self.request.in_place else min(self.request.jobs, missing)
            time = duration(written.result.seconds * (missing / at_once + repeated))
            left = f"the {missing} left and a second run of {AS_WRITTEN}" if repeated else f"the {missing} left"
            take = "take" if repeated or missing > 1 else "takes"
            self.runner.progress.on_message(f"{counted(len(plans), 'run')}; {left} {take} about {time}.")

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
                plan.folder.remove()  # a run of earlier versions of the script's files, or one that --fresh replaces
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


def _shared(links: list[str]) -> str:
    """Say which links lead out of the copied folder."""
    named = ", ".join(map(shortened, links[:NAMED])) + (", …" if len(links) > NAMED else "")
    leads = "leads" if len(links) == 1 else "lead"
    return f"{counted(len(links), 'link')} {leads} out of the copied folder: {named}. What a run writes there stays."


def _changes(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> list[str]:
    """Return what changed in the script's folder, in which all runs worked."""
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if not changed:
        return []
    named = ", ".join(map(shortened, changed[:NAMED])) + (", …" if len(changed) > NAMED else "")
    what = f"{counted(len(changed), 'file')} changed while the runs worked in the script's folder: {named}."
    return [f"{what} A run may have read what an earlier one wrote."]
