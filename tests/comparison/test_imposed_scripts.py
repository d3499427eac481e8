"""The audit's scripts under three modes: whether they were imposed is what was written down before, by reading.

`imposed.toml` is the table. One script per rule runs here; all of them, in any of the modes:

python -m tests.comparison.test_imposed_scripts
"""

from __future__ import annotations

import contextlib
import io
import sys
import tomllib
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gradlab import audit
from gradlab.audit.findings import RULES
from gradlab.comparison.measuring import measured
from tests.audit.test_scripts import COMPILED, NEED, SCRIPTS
from tests.comparison.imposed_runs import ImposedRun, run_script

MODES = ("zero_grad", "no_zero_grad", "halve_grad")
TABLE = Path(__file__).with_name("imposed.toml")


class Expected(NamedTuple):
    """How a script under a mode must be judged."""

    imposed: str
    reason: str

    def is_met_by(self, run: ImposedRun) -> bool:
        explained = self.imposed in ("yes", "nothing") or self.reason in run.reason
        return run.imposed == self.imposed and explained


def expected() -> dict[str, dict[str, Expected]]:
    """Return how each script must be judged, by mode."""
    with TABLE.open("rb") as file:
        groups: list[dict[str, Any]] = tomllib.load(file)["expected"]
    return {
        name: {
            mode: Expected(group.get(mode, group["imposed"]), group.get(f"{mode}_reason", group.get("reason", "")))
            for mode in MODES
        }
        for group in groups
        for name in group["scripts"]
    }


EXPECTED = expected()
OTHERS = [  # one of each kind that no rule's first script is of
    "right_in_backward", "right_no_training", "right_autograd_grad", "right_gradients_by_autograd_grad",
    "right_stale-parameter.copies", "right_gradients_by_hand", "right_never-cleared.one_update",
    "faulty_accumulation-without-effect.noise", "faulty_never-cleared.scaler", "right_amp_fused", "right_amp",
    "right_gan.frozen", "right_never-cleared.lookahead", "right_never-cleared.combined",
    "faulty_never-cleared.created_after", "right_sparse", "right_complex", "right_checkpointing_reentrant",
    "right_retried", "right_closure", "right_stepped-twice", "right_parameter-without-optimizer",
]  # fmt: skip
OF_RULES = [f"faulty_{rule}" if f"faulty_{rule}" in SCRIPTS else f"noted_{rule}" for rule in RULES]


def run(name: str, mode: str | None) -> ImposedRun:
    with contextlib.redirect_stdout(io.StringIO()):
        return run_script(SCRIPTS[name], mode)


def test_the_table_lists_every_script() -> None:
    assert set(EXPECTED) == set(SCRIPTS)


def test_most_scripts_must_take_every_mode() -> None:
    taken = [name for name, by_mode in EXPECTED.items() if {each.imposed for each in by_mode.values()} == {"yes"}]
    assert len(taken) >= 0.78 * len(SCRIPTS)


@pytest.mark.parametrize("name", sorted({*OF_RULES, *OTHERS}))
def test_a_script_is_judged_as_it_reads(name: str) -> None:
    runs = {mode: run(name, mode) for mode in MODES}
    unlike = {
        mode: (found.imposed, found.reason)
        for mode, found in runs.items()
        if not EXPECTED[name][mode].is_met_by(found)
    }
    assert unlike == {}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the frameworks' own
@pytest.mark.parametrize("name", [*COMPILED, *NEED])
def test_a_framework_is_judged_as_it_reads(name: str) -> None:
    if name in NEED and find_spec(NEED[name]) is None:
        pytest.skip(f"needs {NEED[name]}")
    found = run(name, "halve_grad")
    assert EXPECTED[name]["halve_grad"].is_met_by(found), (found.imposed, found.reason)


HARMLESS = [
    "right_by_zeros", "right_by_none_after", "right_by_zero_in_place", "faulty_never-cleared", "noted_partly-kept",
    "noted_partly-kept.decay", "right_foreach", "right_amp", "right_amp_accumulation", "right_amp_fused", "right_gan",
    "right_accumulation-without-effect", "right_closure", "right_sparse", "right_complex",
    "right_retried", "right_resumed", "faulty_frozen-parameter-moves", "faulty_frozen-parameter-moves.adamw",
    "right_sam", "right_gradient-not-finite", "faulty_never-cleared.two_losses", "right_unused", "right_truncated",
    "faulty_never-cleared.combined", "right_never-cleared.lookahead", "right_parameter-without-optimizer",
]  # fmt: skip


def imposes(name: str) -> tuple[list[float], set[str | None]]:
    """Return the losses of a script as it is written, and the modes that must change nothing."""
    with audit.watch() as report:
        found = run(name, None)
    return found.losses, {each["imposes"] for each in measured(report.history, found.imposing.optimizers)}


@pytest.mark.parametrize("name", HARMLESS)
def test_a_mode_that_the_script_has_changes_nothing(name: str) -> None:
    losses, found = imposes(name)
    (mode,) = found
    assert mode is not None
    assert list(map(repr, run(name, mode).losses)) == list(map(repr, losses))


def main() -> int:
    """Run all scripts under all modes; print those that are judged otherwise than written down."""
    warnings.simplefilter("ignore")
    names = sorted(name for name in SCRIPTS if name not in NEED or find_spec(NEED[name]) is not None)
    agreed, harmless, harmful = 0, 0, []
    for name in names:
        for mode in MODES:
            found = run(name, mode)
            agreed += EXPECTED[name][mode].is_met_by(found)
            if not EXPECTED[name][mode].is_met_by(found):
                print(f"{name} under {mode}: {found.imposed}, not {EXPECTED[name][mode].imposed}: {found.reason}")  # noqa: T201
        losses, same = imposes(name)
        its_own = next(iter(same)) if len(same) == 1 else None
        if its_own is not None:
            harmless += 1
            if list(map(repr, run(name, its_own).losses)) != list(map(repr, losses)):
                harmful.append(name)
                print(f"{name}: {its_own}, which it has, changes its losses")  # noqa: T201
    total = len(names) * len(MODES)
    print(f"{agreed} of {total} runs are judged as written down; {harmless - len(harmful)} of {harmless} harmless")  # noqa: T201
    return int(agreed < total or bool(harmful))


if __name__ == "__main__":
    sys.exit(main())
