"""Arguments of `gradlab.run` and `gradlab.sweep`, turned into an experiment as the command line turns its options."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from gradlab import experiment as experiments
from gradlab import optimizers, schedules, tasks, user_code
from gradlab.errors import CompareError, ExperimentError, kind_of, shortened
from gradlab.experiment import SHORT_KEYS, Override, overrides_of
from gradlab.modes import Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gradlab.experiment import Experiment

    TaskGiven = str | os.PathLike[str] | tasks.Task | Callable[..., object]

TABLES = ("optimizer", "schedule", "task_options")  # a mapping for one of these changes single keys


def overrides_in(values: Mapping[str, Any]) -> list[Override]:
    """Return the overrides that these keyword arguments make. An argument that is None makes none.

    Raises:
        ExperimentError: two arguments contradict each other.
    """
    given = {key: each for key, each in values.items() if each is not None}
    if "seed" in given:
        if "seeds" in given:
            raise ExperimentError("seed and seeds exclude each other: use seeds=N for the seeds 0 to N-1, or seed=S")
        seed = _plain(given.pop("seed"))
        given["seeds"] = seed if isinstance(seed, list) else [seed]
    if isinstance(modes := given.pop("mode", None) or given.get("modes"), str | Mode):
        given["modes"] = [modes]
    elif modes is not None:
        given["modes"] = list(modes)
    overrides = [each for key, value in given.items() for each in _overrides(key, _plain(value))]
    return overrides_of((), overrides)


def arguments_of_script(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `gradlab.compare` in the form of the command line: words, and seeds one by one.

    Raises:
        CompareError: a number is out of range.
    """
    for name in ("max_steps", "only_optimizer", "jobs", "timeout"):
        least = 0 if name == "timeout" else 1
        if (value := given[name]) is not None and (isinstance(value, bool) or not value >= least):
            raise CompareError(f"{name} must be at least {least}, got {shortened(value)}")
    modes, seeds = given["modes"], _plain(given["seeds"])
    found = [42] if seeds is None else list(range(seeds)) if isinstance(seeds, int) else seeds
    if not found or not all(type(seed) is int and 0 <= seed < 2**32 for seed in found):
        raise CompareError(
            f"seeds must be the number of seeds, or a list of integers from 0 to 4294967295, got {shortened(seeds)}"
        )
    words = [] if modes is None else [modes] if isinstance(modes, str | Mode) else list(modes)
    return {
        "args": tuple(map(str, given["args"])),
        "modes": [_plain(word) for word in words],
        "seeds": tuple(dict.fromkeys(found)),
    }


def axis_texts(vary: Mapping[str, Any]) -> list[str]:
    """Return the varied keys as the command line writes them: KEY=RANGE, or KEY=A,B,… for a list of values."""
    return [f"{key}={_axis_text(_plain(each))}" for key, each in vary.items()]


def _axis_text(values: Any) -> str:
    if isinstance(values, str):
        return values
    found = values if isinstance(values, list) else [values]
    return ",".join(_toml(each) for each in found)


def _toml(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else repr(value)


def _overrides(key: str, value: Any) -> Iterator[Override]:
    """Yield the overrides of one argument: one, or several for a table."""
    if key == "optimizer" and not isinstance(value, dict):
        yield Override(("optimizer", "name"), value, key)
    elif key in TABLES and isinstance(value, dict):
        yield from (Override((key, name), each, f"{key}.{name}") for name, each in value.items())
    else:
        yield Override(tuple(SHORT_KEYS.get(key, key).split(".")), value, key)


def _plain(value: Any) -> Any:
    """Return a value as TOML has it: lists for sequences, words for modes, numbers for those of NumPy."""
    if isinstance(value, Mode):
        return _word(value)
    if isinstance(value, type) and value.__module__.startswith("torch.optim."):
        return value.__name__
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | range | set | frozenset):
        return [_plain(each) for each in value]
    if hasattr(value, "tolist"):  # an array, a tensor, or one number of these
        return value.tolist()
    return value


def _word(mode: Mode) -> str:
    """Return the word of a mode, with the whole path of a user's file."""
    if mode.own is None or mode.own.file is None:
        return mode.name
    return mode.name.replace(mode.own.name, f"{mode.own.file}:{mode.own.function}", 1)


@contextmanager
def chosen_experiment(
    command: str, given: TaskGiven | None, task: TaskGiven | None, overrides: list[Override]
) -> Iterator[Experiment]:
    """Yield the experiment for these arguments. Objects in them are known until the end of the context.

    Args:
        command: run or sweep, for messages.
        given: a TOML file, a shipped experiment, or a task.
        task: a task that replaces the experiment's.
        overrides: the other arguments.

    Raises:
        GradlabError: it does not exist, or a value is invalid.
    """
    if _is_task(given):
        if task is not None:
            raise ExperimentError("two tasks are given: remove one of them, or task=…")
        given, task = None, given
    name = None if given is None else _text(given)
    with ExitStack() as stack:
        overrides = [_named(each, stack) for each in overrides]
        if task is None or isinstance(task, str | os.PathLike):
            yield _experiment(command, name, None if task is None else _text(task), overrides)
            return
        found = _experiment(command, name, stack.enter_context(tasks.given_task(task)), overrides)
        if isinstance(task, tasks.Task) and len(found.seeds) > 1:
            raise ExperimentError(
                f"a Task object has one start, so it cannot train {len(found.seeds)} seeds\n"
                "pass a function that makes it: def my_task(seed): … return gradlab.Task(model, batches, loss)"
            )
        yield found


def _named(override: Override, stack: ExitStack) -> Override:
    """Return the override with a word for the class or function that it holds, if any."""
    table, value = override.key[0], override.value
    if table not in _KNOWN or override.key not in ((table,), (table, "name")) or not callable(value):
        return override
    name = getattr(value, "__name__", type(value).__name__).strip("<>")
    name = f"{name} of your own" if name in _KNOWN[table]() else name
    return override._replace(value=stack.enter_context(user_code.given(value, name, tasks.hash_of_source(value))))


_KNOWN: dict[str, Callable[[], list[str]]] = {"optimizer": optimizers.names, "schedule": schedules.names}


def has_objects(experiment: Experiment) -> bool:
    """Return whether the experiment contains objects instead of names, which other processes cannot import."""
    named = (experiment.task_name, experiment.optimizer_name, experiment.schedule_name)
    return any(isinstance(each, user_code.FunctionName) and each.given is not None for each in named)


def _experiment(command: str, name: str | None, task: str | None, overrides: list[Override]) -> Experiment:
    if task is not None and name is None:
        return experiments.from_task(task, overrides, command)
    replaced = [] if task is None else [Override(("task",), task, "task")]
    return experiments.load(name or experiments.DEFAULT_EXPERIMENT, [*replaced, *overrides], command)


def _is_task(given: object) -> bool:
    """Return whether the first argument is a task: an object, or a name that no experiment has."""
    if not isinstance(given, str):
        return isinstance(given, tasks.Task) or callable(given)
    key = given.strip().lower().replace("-", "_")
    return user_code.is_function_name(given) or (key in tasks.BUILT_IN and key not in experiments.shipped())


def _text(given: object) -> str:
    if not isinstance(given, str | os.PathLike):
        raise ExperimentError(
            f"expected an experiment or a task, got {kind_of(given)}: {shortened(repr(given))}\n"
            "pass a TOML file, a name from `gradlab experiments`, a function that returns a Task, or a Task"
        )
    return os.fsdecode(given)
