"""Learning-rate schedules by name: `linear`, `cosine`, those of torch.optim.lr_scheduler, or a user's own function.

Names and options are read from torch's source files, as those of optimizers.
"""

from __future__ import annotations

import ast
import inspect
import math
import warnings
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, cast

from gradlab import user_code
from gradlab.errors import OptimizerError, kind_of, raise_together, reason_of, unknown
from gradlab.signatures import (
    TakenOptions,
    definitions_in,
    option_faults,
    options_in,
    options_of,
    spelled_alike,
    torch_file,
)
from gradlab.user_code import title_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gradlab.optimizers import Optimizer, Scheduler
    from gradlab.user_code import FunctionName

    ScheduleName = str | FunctionName  # linear, cosine or torch's, or a user's own

Every = Literal["update", "epoch"]  # how often a schedule steps

# Factor on the learning rate, by the completed share of all updates (0 to 1).
SHAPES: dict[str, Callable[[float], float]] = {
    "linear": lambda share: 1 - share,
    "cosine": lambda share: (1 + math.cos(math.pi * share)) / 2,
}
PER_UPDATE = (*SHAPES, "OneCycleLR", "CyclicLR")  # by default; others step per epoch
ABSOLUTE = ("max_lr", "base_lr", "eta_min")  # options that are learning rates, not factors
TOTAL = "total_steps"  # the option of a user's function that receives the number of steps
_TOTALS = {"OneCycleLR": TOTAL, "CosineAnnealingLR": "T_max"}  # default: all steps of the run
_PEAKS = ("OneCycleLR", "CyclicLR")  # their max_lr is the optimizer's lr by default
_GIVEN = {"OneCycleLR": (TOTAL, "epochs", "steps_per_epoch")}  # set by gradlab
_NOT_NUMBERS = ("last_epoch", "verbose", "scale_fn")
_OWN = "write a function (optimizer, …) that returns it, and name it FILE.py:NAME"
_REFUSED = {
    **dict.fromkeys(("LambdaLR", "MultiplicativeLR"), f"takes a function: {_OWN}"),
    **dict.fromkeys(("SequentialLR", "ChainedScheduler"), f"takes other schedules: {_OWN}"),
    "ReduceLROnPlateau": "follows a measured loss, which gradlab does not pass to it. Try CosineAnnealingLR",
}
_REHEARSED = 1009  # total steps of a schedule that is tried before training: with few, parts of it have no length


def names() -> list[str]:
    """Return the names that `find` accepts, in torch's spelling, without importing torch."""
    return [*SHAPES, *sorted(set(_classes()) - set(_REFUSED), key=str.lower)]


def find(name: str, folder: Path | None = None) -> ScheduleName:
    """Return the schedule's name in torch's spelling, or a user's own function, which is not imported.

    Case, `-` and `_` do not matter in names without a file.

    Raises:
        OptimizerError: no such schedule or file exists, or gradlab does not support it.
    """
    if ":" in name:
        return user_code.find(name, folder, "schedule")
    if (known := spelled_alike(name, (*SHAPES, *_classes()))) in _REFUSED:
        raise OptimizerError(f"schedule '{known}' {_REFUSED[known]}")
    if known:
        return known
    raise OptimizerError(unknown("schedule", name, [*names(), "FILE.py:NAME"]))


def default_every(name: ScheduleName) -> Every:
    """Return how often a schedule steps if the experiment does not say it."""
    return "update" if name in PER_UPDATE else "epoch"


def faults_of_options(name: ScheduleName, options: Mapping[str, object]) -> Iterator[tuple[str, OptimizerError]]:
    """Yield each invalid option with its error, without importing torch or a user's file.

    Options that the source of a user's function does not show are not checked.
    """
    if name in SHAPES:
        for option in options:
            yield option, OptimizerError(f"schedule '{name}' takes no options. Remove {option}.")
        return
    if isinstance(name, str):
        yield from _faults(name, _options(name), options)
    elif (file := user_code.source_file(name)) is not None and (taken := options_in(file, name.function)):
        yield from _faults(name, taken, options)


def _faults(
    name: ScheduleName, taken: TakenOptions, options: Mapping[str, object]
) -> Iterator[tuple[str, OptimizerError]]:
    title = title_of(name)
    ours = _GIVEN.get(name, ()) if isinstance(name, str) else (TOTAL,)
    for option in ours:
        if option in options and option in taken.annotations:
            yield option, OptimizerError(f"schedule '{title}': gradlab sets the number of steps. Remove {option}.")
    others = {option: value for option, value in options.items() if option not in ours}
    yield from option_faults(f"schedule '{title}'", taken.without((*ours, "last_epoch")), others, "schedule")


def check_options(name: ScheduleName, options: Mapping[str, object]) -> None:
    """Check the options of a schedule. This imports torch, or a user's own function.

    Raises:
        OptimizerError: an option is unknown, missing or invalid, or the function cannot be imported.
    """
    faults = faults_of_options(name, options)
    if not isinstance(name, str) and (taken := options_of(user_code.load(name))) is not None:
        faults = _faults(name, taken, options)
    raise_together([fault for _, fault in faults], OptimizerError)


def rehearse(name: ScheduleName, optimizer: Optimizer, options: Mapping[str, Any]) -> None:
    """Take some steps of torch's schedule with an optimizer that is not used further: torch checks values late.

    Raises:
        OptimizerError: torch rejects an option.
    """
    if not isinstance(name, str):
        return
    made = _made(name, optimizer, options, _REHEARSED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for _ in range(3):
                optimizer.step()
                made.step()
        except ZeroDivisionError:
            zero = [key for key, value in options.items() if value == 0]
            raise OptimizerError(f"schedule '{name}': {' and '.join(zero) or 'an option'} must not be 0") from None
        except Exception as error:  # torch raises several types for a bad value
            raise OptimizerError(f"schedule '{name}': {reason_of(error)}") from None


def needs_total(name: ScheduleName, options: Mapping[str, object]) -> bool:
    """Return whether the schedule depends on the number of its steps in a run."""
    if isinstance(name, str):
        return name in SHAPES or (name in _TOTALS and _TOTALS[name] not in options)
    taken = options_of(user_code.load(name))
    return taken is not None and TOTAL in taken.annotations


def build(name: ScheduleName, optimizer: Optimizer, options: Mapping[str, Any], total: int | None) -> Scheduler:
    """Return the schedule `name` of this optimizer.

    Args:
        name: linear and cosine lead from the optimizer's lr to 0.
        optimizer: the optimizer, with one or several parameter groups.
        options: the options of the class or function.
        total: the number of its steps in the run; None if it needs none.

    Raises:
        OptimizerError: the optimizer is not from torch.optim, or the schedule raises an error or is none.
    """
    lasting = f" over {total} steps" if needs_total(name, options) else ""
    return _made(name, optimizer, options, total, lasting)


def _made(
    name: ScheduleName, optimizer: Optimizer, options: Mapping[str, Any], total: int | None, lasting: str = ""
) -> Scheduler:
    """Return the schedule with these options; `lasting` says in messages how long it is."""
    from torch.optim import Optimizer as TorchOptimizer
    from torch.optim import lr_scheduler

    title = title_of(name)
    if not isinstance(optimizer, TorchOptimizer):
        raise OptimizerError(f"schedule '{title}' needs an optimizer from torch.optim, such as sgd")
    if isinstance(name, str) and name in SHAPES:
        factor, updates = SHAPES[name], total or 1
        return cast("Scheduler", lr_scheduler.LambdaLR(optimizer, lambda update: factor(min(1.0, update / updates))))
    kind = getattr(lr_scheduler, name) if isinstance(name, str) else user_code.load(name)
    try:
        made = kind(optimizer, **_completed(name, optimizer, options, total))
    except Exception as error:  # torch raises several types for a bad value, and a user's function any
        raise OptimizerError(f"schedule '{title}'{lasting}: {reason_of(error)}") from None
    if not isinstance(name, str):
        _check_own(name, made)
    return cast("Scheduler", made)


def _completed(name: ScheduleName, optimizer: Any, options: Mapping[str, Any], total: int | None) -> dict[str, Any]:
    """Return the options with those that gradlab sets."""
    given = dict(options)
    if needs_total(name, options):
        given[_TOTALS[name] if isinstance(name, str) else TOTAL] = total
    if name in _PEAKS and "max_lr" not in given:
        given["max_lr"] = [group["lr"] for group in optimizer.param_groups]
    return given


def _check_own(name: FunctionName, made: Any) -> None:
    """Check that a user's schedule can step and resume.

    Raises:
        OptimizerError: it returned another object, or its state cannot be saved.
    """
    if not callable(getattr(made, "step", None)) or not callable(getattr(made, "state_dict", None)):
        raise name.error(f" returned {kind_of(made)}; return a scheduler of torch.optim.lr_scheduler")
    if _needs_arguments(made.step):
        raise name.error(f" returned {kind_of(made)}, whose step needs arguments. gradlab calls step() without any.")
    if wrong := _not_plain(made.state_dict()):
        raise name.error(f": its state_dict() holds {wrong}, so a run could not resume. Leave it out of state_dict().")


def _needs_arguments(step: Callable[..., object]) -> bool:
    try:
        inspect.signature(step).bind()
    except TypeError:
        return True
    except ValueError:  # it has no signature
        return False
    return False


def _not_plain(state: Any) -> str:
    """Return which part of a state cannot be saved in a checkpoint, or ""."""
    if isinstance(state, Mapping):
        found = ((key, _not_plain(each)) for key, each in state.items())
        return next((f"{each} as {key}" for key, each in found if each), "")
    if isinstance(state, list | tuple | AbstractSet):
        return next(filter(None, map(_not_plain, state)), "")
    plain = isinstance(state, bool | int | float | str | bytes | None) or hasattr(state, "detach")
    return "" if plain else kind_of(state)


@lru_cache(maxsize=1)
def _classes() -> tuple[str, ...]:
    """Return the schedules of torch.optim.lr_scheduler."""
    found = definitions_in(torch_file("optim", "lr_scheduler.py"))
    return tuple(
        name
        for name, each in found.items()
        if isinstance(each, ast.ClassDef)
        and not name.startswith("_")
        and any(ast.unparse(base) == "LRScheduler" for base in each.bases)
    )


@lru_cache
def _options(name: str) -> TakenOptions:
    """Return the options of torch's schedule that are numbers; those with a default of gradlab are not required."""
    taken = options_in(torch_file("optim", "lr_scheduler.py"), name) or TakenOptions({}, takes_any=True)
    taken = taken.without(_NOT_NUMBERS)
    defaults = (*([_TOTALS[name]] if name in _TOTALS else []), *(["max_lr"] if name in _PEAKS else []))
    return taken._replace(required=tuple(each for each in taken.required if each not in defaults))
