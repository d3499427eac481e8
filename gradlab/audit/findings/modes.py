"""Rules on modes of modules: eval mode, and `requires_grad` set on a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.audit.findings.finding import LEAST, Finding
from gradlab.wording import counted, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlab.audit.history.history import History


def requires_grad_of_module(history: History) -> Iterator[Finding]:
    """Find `module.requires_grad = False`, which sets an attribute that nothing reads."""
    for flag in history.ignored_flags:
        still = "require no gradient" if flag.value else "require gradient"
        yield Finding(
            "requires-grad-of-module",
            "warning",
            1,
            (),
            f"requires_grad = {flag.value} on {flag.name} has no effect, because modules have no such attribute: "
            f"{counted(flag.parameters, 'parameter')} still {still} (at the end)",
            f"module.requires_grad_({flag.value}), which sets all its parameters",
        )


def trained_in_eval_mode(history: History) -> Iterator[Finding]:
    """Find networks in eval mode at half of the updates or more, if they have layers that this changes."""
    for each in history.trained():
        mode = each.seen.eval_mode
        if mode is None or mode.times < LEAST or 2 * mode.updates < each.updates:
            continue
        layers = plural("layer", mode.count)
        yield Finding(
            "trained-in-eval-mode",
            "warning",
            mode.since,
            tuple(each.places_of("S")),
            f"{each.name}: {mode.kind} is in eval mode at {mode.times} of {each.times_measured} measured updates, so "
            f"{mode.count} {layers} ({', '.join(mode.layers)}) {'work' if mode.count > 1 else 'works'} as in an "
            "evaluation",
            "model.train() before training, and again after each evaluation",
        )
