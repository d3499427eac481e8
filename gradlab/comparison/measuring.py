"""What a script does as it is written: the mode of each optimizer, as the audit measured it."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from gradlab import modes
from gradlab.audit.history.keep import backwards_per_update, keep_of, mode_of, scale_of_kept

if TYPE_CHECKING:
    from gradlab.audit.history.history import History, OptimizerHistory
    from gradlab.comparison.tracked import TrackedOptimizer, TrackedOptimizers
    from gradlab.modes import Mode

MODES_BY_KEEP = {0.0: modes.zero_grad, 0.5: modes.halve_grad, 1.0: modes.no_zero_grad}


def measured(history: History, optimizers: TrackedOptimizers) -> list[dict[str, Any]]:
    """Return what was measured of each optimizer that took a step.

    Each has the keys `number`, `class`, `mode`, `keep`, `passes` and `imposes`. `number` is that in the order of
    construction. `passes` is the number of micro-batches per update. `imposes` is the mode that changes nothing when
    it is imposed. A value is None if it is unknown or none fits.
    """
    stepped: defaultdict[str, list[TrackedOptimizer]] = defaultdict(list)
    for tracked in optimizers:
        if tracked.updates:
            stepped[tracked.kind.__name__].append(tracked)
    trained = history.trained()
    of_class = Counter(each.kind for each in trained)
    found = []
    for each in trained:
        known = stepped[each.kind]
        found.append(_measured(each, known.pop(0) if len(known) >= of_class[each.kind] else None))
        of_class[each.kind] -= 1
    return found


def _measured(history: OptimizerHistory, tracked: TrackedOptimizer | None) -> dict[str, Any]:
    name, keep = mode_of(history), keep_of(history)
    zeros = None if tracked is None else tracked.zeros
    mode = None if name is None else modes.parse(name)
    if mode is not None and mode == modes.zero_grad() and zeros:
        mode = modes.zero_grad(fill=True)
    imposes = None if mode is None else _imposes(mode, zeros)
    return {
        "number": None if tracked is None else tracked.number,
        "class": history.kind,
        "mode": mode and mode.name,
        "keep": keep and keep.median,
        "passes": mode.every if mode is not None else backwards_per_update(history),
        "imposes": imposes.name if imposes is not None and scale_of_kept(history) == 1 else None,
    }


def _imposes(mode: Mode, zeros: bool | None) -> Mode | None:
    """Return the mode that keeps the same between the steps of the script's own windows."""
    if mode.keep == 0:
        return None if zeros is None else modes.zero_grad(fill=zeros)
    return MODES_BY_KEEP[mode.keep]() if mode.keep in MODES_BY_KEEP else modes.rule(mode.keep)
