"""Evidence: whether a training shows enough for a rule to find its mistake, if it were there.

Without it, a comment that ignores the rule may still be needed, and no note says that it is unused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.audit.findings.finding import LEAST, count
from gradlab.audit.history.parameters import SPAN_OF_GRAPHS
from gradlab.audit.history.trace import CLEARED, backwards_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gradlab.audit.history.history import OptimizerHistory

    Shows = Callable[[OptimizerHistory], bool]

MEASURED = 8  # updates; enough for most rules
FOR_GRAPHS = SPAN_OF_GRAPHS + 10  # updates; with a margin


def has_evidence(rule: str, history: OptimizerHistory) -> bool:
    """Say whether an optimizer's training shows everything that the rule looks at, often enough."""
    needed = EVIDENCE.get(rule)
    return needed is not None and history.times_measured >= MEASURED and all(each(history) for each in needed)


def _windows(history: OptimizerHistory) -> bool:
    return count(history, lambda trace: backwards_in(trace) > 1).updates >= LEAST


def _epochs(history: OptimizerHistory) -> bool:
    return count(history, lambda trace: "b" in trace).updates >= LEAST


def _losses(history: OptimizerHistory) -> bool:
    return bool(history.losses)


def _shortening(history: OptimizerHistory) -> bool:
    return history.clips_shortened > 0


def _attacks(history: OptimizerHistory) -> bool:
    return history.seen.asked > 0 or any(each.moved for each in history.measured)


def _updates_for_graphs(history: OptimizerHistory) -> bool:
    return history.updates >= FOR_GRAPHS


def _any_of(letters: str) -> Shows:
    return lambda history: count(history, lambda trace: any(each in trace for each in letters)).updates >= LEAST


_clearing, _clipping, _unscaling, _scheduling = map(_any_of, (CLEARED, "c", "u", "s"))
_closures, _others = map(_any_of, ("L", "o"))

# Rules that are missing here depend on data, or on what may happen late, such as unfreezing a layer.
# A comment for them never counts as unused.
EVIDENCE: Mapping[str, tuple[Shows, ...]] = {
    "never-cleared": (),
    "cleared-before-step": (),
    "cleared-once-an-epoch": (_clearing,),
    "accumulation-without-effect": (_windows,),
    "partly-kept": (),
    "first-window-off-by-one": (_windows, _epochs),
    "last-window-dropped": (_windows, _epochs),
    "last-window-leaks": (_windows, _epochs),
    "last-window-divided-by-n": (_windows, _epochs, _losses),
    "loss-not-divided": (_windows, _losses),
    "divided-twice": (_windows, _losses),
    "clipped-at-every-micro-batch": (_windows, _clipping, _shortening),
    "clipped-before-backward": (_clipping, _shortening),
    "clipped-before-unscale": (_clipping, _shortening, _unscaling),
    "clips-nothing": (_clipping,),
    "unscaled-without-scaling": (_unscaling,),
    "scheduler-at-every-micro-batch": (_windows, _scheduling),
    "stepped-twice": (),
    "parameter-made-in-forward": (),
    "parameter-without-gradient": (),
    "parameter-in-two-optimizers": (_others,),
    "leaking-loss": (_others,),
    "gradient-of-another-pass": (_attacks,),
    "closure-without-clearing": (_closures,),
    "graph-kept": (_updates_for_graphs,),
}
