"""gradlab.run, gradlab.sweep and gradlab.compare."""

from __future__ import annotations

import tempfile
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradlab.api.arguments import arguments_of_script, axis_texts, chosen_experiment, has_objects, overrides_in
from gradlab.api.progress import LiveProgress, NotebookDisplay, place_display
from gradlab.api.run_results import ExperimentRuns, TrainedRun
from gradlab.api.script_results import ScriptRuns
from gradlab.api.session import training_session
from gradlab.api.sweep_results import SweepRuns
from gradlab.errors import ExperimentError
from gradlab.terminal.progress import RunProgress

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from torch import nn
    from torch.optim import Optimizer

    from gradlab.analysis.results import ExperimentResult, Result
    from gradlab.api.arguments import TaskGiven
    from gradlab.experiment import Experiment
    from gradlab.modes import Mode
    from gradlab.store import RunRecord
    from gradlab.sweeps import Grid
    from gradlab.terminal.progress import TrainingProgress

    Modes = str | Mode | Sequence[str | Mode]


def run(
    experiment: TaskGiven | None = None,
    *,
    modes: Modes | None = None,
    task: TaskGiven | None = None,
    optimizer: str | type[Optimizer] | Mapping[str, Any] | None = None,
    lr: float | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    seeds: int | Sequence[int] | None = None,
    engine: str | None = None,
    device: str | None = None,
    out: str | os.PathLike[str] | None = "runs",
    fresh: bool = False,
    quiet: bool = False,
    live: bool = False,
    **settings: Any,
) -> ExperimentRuns:
    """Train one model under several modes, and return the runs.

        result = gradlab.run("diverging_loss")
        result = gradlab.run(my_task, modes=["zero_grad", "no_zero_grad"], lr=0.1, epochs=5, seeds=3)

    Args:
        experiment: a shipped experiment, a TOML file, or a task. Default: diverging_loss.
        modes: a mode or several. Default: the experiment's, or zero_grad, no_zero_grad and halve_grad.
        task: a task's name, FILE.py:NAME, a function of a seed that returns a `Task`, or a `Task` for one seed.
        optimizer: a class of torch.optim or its name, vanilla, FILE.py:NAME, a class of your own; or a dict with its
            options.
        lr: the learning rate.
        steps: train for this number of backward passes.
        epochs: train for this number of passes over the batches.
        batch_size: the task's batch size.
        seeds: N for the seeds 0 to N-1, or a list of seeds.
        engine: loop, ensemble or tensorflow.
        device: cpu, cuda or mps.
        out: the folder of runs; None keeps no files.
        fresh: retrain finished runs.
        quiet: show no progress.
        live: redraw the picture while training, in a notebook.
        **settings: other keys of the experiment file, such as momentum, keep, clip_norm, schedule or task_options={…}.

    Raises:
        GradlabError: an argument, a file or the folder is at fault.
        KeyboardInterrupt: the training was interrupted. The same call continues it, unless out is None.
    """
    values = settings | {
        "modes": modes, "optimizer": optimizer, "lr": lr, "steps": steps, "epochs": epochs, "batch_size": batch_size,
        "seeds": seeds, "engine": engine, "device": device,
    }  # fmt: skip
    with chosen_experiment("run", experiment, task, overrides_in(values)) as chosen, _folder(out) as folder:
        from gradlab import runs

        models: dict[tuple[str, int], nn.Module] = {}
        progress = None if quiet else _run_progress(chosen, folder, live=live, fresh=fresh)
        with training_session(keeps_files=out is not None) as stop, _closed(progress):
            outcome = runs.run(chosen, folder, fresh=fresh, progress=progress, stop=stop, models=models)
        return _runs_of(outcome, models, keeps_files=out is not None)


def sweep(
    experiment: TaskGiven | None = None,
    *,
    vary: Mapping[str, Any] | None = None,
    modes: Modes | None = None,
    task: TaskGiven | None = None,
    optimizer: str | type[Optimizer] | Mapping[str, Any] | None = None,
    lr: float | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    seeds: int | Sequence[int] | None = None,
    engine: str | None = None,
    device: str | None = None,
    workers: int | None = None,
    dask: str | None = None,
    out: str | os.PathLike[str] | None = "runs",
    fresh: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> SweepRuns:
    """Train a grid of runs, and return where they converge, oscillate or diverge.

        gradlab.sweep("phase_digits", vary={"lr": "1e-2:1:9:log", "keep": "0:1:5"}, seeds=4)

    Args:
        experiment: a shipped experiment, a TOML file, or a task, as in `run`.
        vary: the varied keys, each with a range LOW:HIGH:COUNT or LOW:HIGH:COUNT:log, or a list of values. Default:
            the experiment's.
        modes: a mode or several, as in `run`.
        task: a task, as in `run`. Runs with an object, as task or optimizer, are trained in this process.
        optimizer: the optimizer, as in `run`.
        lr: the learning rate.
        steps: train for this number of backward passes.
        epochs: train for this number of passes over the batches.
        batch_size: the task's batch size.
        seeds: N for the seeds 0 to N-1, or a list of seeds.
        engine: loop or ensemble. Default: the fastest available.
        device: cpu, cuda or mps.
        workers: the number of processes. Default: one per core.
        dask: the address of a Dask scheduler whose workers train instead.
        out: the folder of runs; None keeps no files.
        fresh: retrain finished runs.
        quiet: show no progress.
        **settings: other keys of the experiment file, as in `run`.

    Raises:
        GradlabError: an argument, a file, the folder or the cluster is at fault.
        KeyboardInterrupt: the training was interrupted. The same call continues it, unless out is None.
    """
    values = settings | {
        "modes": modes, "optimizer": optimizer, "lr": lr, "steps": steps, "epochs": epochs, "batch_size": batch_size,
        "seeds": seeds, "device": device,
    }  # fmt: skip
    overrides = overrides_in(values)
    if workers is not None and dask is not None:
        raise ExperimentError("workers and dask exclude each other: workers trains on this machine, dask on a cluster")
    with chosen_experiment("sweep", experiment, task, overrides) as chosen, _folder(out) as folder:
        from gradlab import sweeps
        from gradlab.terminal.progress import SweepProgress

        is_object = has_objects(chosen)
        if is_object and (workers or 1) > 1:
            _refuse_processes("workers", workers)
        if is_object and dask is not None:
            _refuse_processes("dask", dask)
        modes_by = next((each.flag for each in overrides if each.key == ("modes",)), "")
        grid = sweeps.grid_of(chosen, axis_texts(vary or {}), engine=engine, modes_by=modes_by)
        progress = None if quiet else SweepProgress(place_display())
        with training_session(keeps_files=out is not None) as stop, _closed(progress):
            if chosen.task_name.given is not None:
                _include_starts(grid)
            outcome = sweeps.run(
                grid, folder, fresh=fresh, workers=1 if is_object else workers, dask=dask, progress=progress, stop=stop
            )
        return SweepRuns(outcome.folder.path if out is not None else None, outcome, outcome.folder.results())


def compare(
    script: str | os.PathLike[str],
    args: Sequence[str] = (),
    *,
    modes: Modes | None = None,
    seeds: int | Sequence[int] | None = None,
    max_steps: int | None = None,
    timeout: float | None = None,
    jobs: int = 1,
    module: bool = False,
    only_optimizer: int | None = None,
    in_place: bool = False,
    out: str | os.PathLike[str] | None = "runs",
    fresh: bool = False,
    quiet: bool = False,
) -> ScriptRuns:
    """Run your own training script under several modes, unchanged, and return the runs.

        gradlab.compare("train.py", modes=["zero_grad", "no_zero_grad"])

    The script runs in processes of its own: first as it is written, then with each mode imposed.

    Args:
        script: the script.
        args: its arguments.
        modes: a mode or several to impose. Default: zero_grad, no_zero_grad and halve_grad.
        seeds: N for the seeds 0 to N-1, or a list of seeds. Default: 42.
        max_steps: end each run after this number of backward passes.
        timeout: end each run after this number of seconds.
        jobs: run this number of scripts at the same time.
        module: `script` is a module's name, as in package.module.
        only_optimizer: impose the modes on this optimizer only, counted from 1.
        in_place: run in the script's own folder, not in a copy for each run.
        out: the folder of runs; None keeps no files.
        fresh: run again what is finished.
        quiet: show no progress.

    Raises:
        GradlabError: an argument or the script is at fault, or no optimizer took a step.
        KeyboardInterrupt: the comparison was interrupted. The same call continues it, unless out is None.
    """
    from gradlab.comparison import comparing
    from gradlab.comparison.request import CompareRequest, find_script, parse_modes
    from gradlab.terminal.progress import RunProgress

    given = arguments_of_script({"modes": modes, "seeds": seeds, "args": args, "max_steps": max_steps, "jobs": jobs,
                                 "timeout": timeout, "only_optimizer": only_optimizer})  # fmt: skip
    request = CompareRequest(
        find_script(str(script), is_module=module),
        given["args"],
        parse_modes(given["modes"]),
        given["seeds"],
        most_passes=max_steps,
        timeout=timeout,
        only=only_optimizer,
        in_place=in_place,
        fresh=fresh,
        jobs=jobs,
    )
    runs = (1 + len(request.modes)) * len(request.seeds)
    with _folder(out) as folder:
        progress = None if quiet else RunProgress(place_display(), runs)
        with training_session(keeps_files=out is not None) as stop, _closed(progress):
            found = comparing.compare(request, folder, progress=progress, stop=stop)
        return ScriptRuns(
            request.script.stem,
            request.title,
            tuple(_run_of(each, None, keeps_files=out is not None) for each in found.runs),
            (),
            found.folder if out is not None else None,
            tuple(found.runs),
            _records(found.runs),
            script=found.script,
            notes=tuple(found.notes),
            faults=tuple(found.faults),
        )


def _refuse_processes(name: str, value: object) -> None:
    raise ExperimentError(
        f"{name}={value!r} needs code that other processes can import, not an object\n"
        'write it to a file, and pass its name, such as task="mine.py:my_task"'
    )


def _include_starts(grid: Grid) -> None:
    """Make runs of a function object depend on its weights, first batch and first loss, besides its source."""
    from gradlab import runs, user_code

    point = grid.experiment_at(next(grid.points()))
    runs.prepare(point)
    for seed in grid.seeds:
        user_code.extend_source(point.task, f"{seed} {runs.start_text(point, seed)}")


def _run_progress(chosen: Experiment, folder: Path, *, live: bool, fresh: bool) -> RunProgress:
    display = place_display()
    if live and isinstance(display, NotebookDisplay):
        from gradlab import runs, store

        place = store.experiment_folder(folder, chosen.name)
        return LiveProgress(display, runs.plan_runs(chosen, place, fresh=fresh), fresh=fresh)
    return RunProgress(display, len(chosen.modes) * len(chosen.seeds))


def _closed(progress: TrainingProgress | None) -> AbstractContextManager[object]:
    """Return a context that closes the progress at its end."""
    return closing(progress) if progress else nullcontext()


@contextmanager
def _folder(out: str | os.PathLike[str] | None) -> Iterator[Path]:
    """Yield the folder of runs, a temporary one for None."""
    if out is not None:
        yield Path(out)
        return
    with tempfile.TemporaryDirectory(prefix="gradlab-") as folder:
        yield Path(folder)


def _runs_of(
    outcome: ExperimentResult, models: Mapping[tuple[str, int], nn.Module], *, keeps_files: bool
) -> ExperimentRuns:
    return ExperimentRuns(
        outcome.experiment,
        outcome.title,
        tuple(_run_of(each, models.get((each.mode, each.seed)), keeps_files=keeps_files) for each in outcome.runs),
        tuple(outcome.expectations),
        outcome.folder if keeps_files else None,
        tuple(outcome.runs),
        _records(outcome.runs),
    )


def _records(results: Sequence[Result]) -> tuple[RunRecord, ...]:
    from gradlab.store import RunFolder

    return tuple(RunFolder(each.folder).read() for each in results)


def _run_of(result: Result, model: nn.Module | None, *, keeps_files: bool) -> TrainedRun:
    values = {name: getattr(result, name) for name in TrainedRun.__dataclass_fields__ if name != "model"}
    values["compared"], values["evaluations"] = dict(result.compared), list(result.evaluations)
    values["folder"] = result.folder if keeps_files else None
    return TrainedRun(**values, model=model if result.status == "done" and not result.cached else None)
