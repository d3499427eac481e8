"""Scripts that are faulty, corrected or right: what is found in each, at which lines, and nothing else.

`faulty_ID.py` has the finding ID at the lines marked `# here`, `noted_ID.py` a note, `right_*.py` nothing. A further
script of one finding is `faulty_ID.MORE.py`.
"""

from __future__ import annotations

import functools
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gradlab import audit
from gradlab.audit.findings import RULES

if TYPE_CHECKING:
    from gradlab.audit import Report

pytestmark = pytest.mark.xdist_group("audit scripts")  # each is run once for all that is claimed of it

SCRIPTS = {file.stem: file for file in sorted(Path(__file__).with_name("scripts").glob("*.py"))}
FAULTY = [name for name in SCRIPTS if name.startswith(("faulty_", "noted_"))]
RIGHT = [name for name in SCRIPTS if name.startswith("right_")]
NEED = {f"right_{name}": name for name in ("lightning", "accelerate", "transformers")}  # the extra `frameworks`


@functools.cache
def watched(file: Path, sample: int | None = None) -> Report:
    """Run a script here, watched, once for each sampling; the watching itself must not have failed."""
    if file.stem in NEED:
        pytest.importorskip(NEED[file.stem], exc_type=ImportError)
    with audit.watch(sample) as report:
        runpy.run_path(str(file))
    assert report.history.faults == []
    return report


def marked(file: Path) -> list[int]:
    return [nth for nth, line in enumerate(file.read_text().splitlines(), 1) if line.endswith("# here")]


@pytest.mark.parametrize("sample", [None, 1], ids=["by default", "each update"])
@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_script_has_its_finding_at_its_lines_and_no_other(name: str, sample: int | None) -> None:
    found = watched(SCRIPTS[name], sample).findings
    kind, _, rest = name.partition("_")
    assert [each.id for each in found] == [rest.partition(".")[0]]
    assert (found[0].severity == "note") == (kind == "noted")
    assert {place.file for place in found[0].places} == {str(SCRIPTS[name])}
    assert [place.line for place in found[0].places] == marked(SCRIPTS[name])


@pytest.mark.filterwarnings("ignore")  # those of torch's compiler and of frameworks are no business of ours
@pytest.mark.parametrize("sample", [None, 1], ids=["by default", "each update"])
@pytest.mark.parametrize("name", RIGHT)
def test_in_a_right_script_nothing_is_found(name: str, sample: int | None) -> None:
    assert watched(SCRIPTS[name], sample).findings == []


@pytest.mark.filterwarnings("ignore")  # as above
@pytest.mark.parametrize("name", SCRIPTS)
def test_what_happens_is_noted_alike_whether_an_update_is_measured_or_not(name: str) -> None:
    by_default, each = (watched(SCRIPTS[name], sample).history.optimizers for sample in (None, 1))
    assert [optimizer.stretches for optimizer in by_default] == [optimizer.stretches for optimizer in each]


def test_every_faulty_script_has_a_corrected_one_and_is_named_in_the_documentation() -> None:
    documented = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    for name in FAULTY:
        finding = name.partition("_")[2].partition(".")[0]
        assert f"`{finding}`" in documented
        assert name.startswith("noted_") or f"right_{finding}" in SCRIPTS
    for name in SCRIPTS:
        assert f"`{name}`" in documented


MODES = {
    "faulty_never-cleared": "no_zero_grad",
    "faulty_accumulation-without-effect": "zero_grad",
    "faulty_accumulation-without-effect.in_place": "zero_grad",
    "faulty_cleared-before-step.in_place": None,
    "faulty_cleared-once-an-epoch": None,
    "noted_partly-kept": "halve_grad",
    "noted_partly-kept.decay": "decay:0.9",
    "right_accelerate": "accumulate:2",
    "right_accumulation-without-effect": "accumulate:4",
    "right_accumulation-without-effect.summed_by_hand": "zero_grad",
    "noted_loss-not-divided": "accumulate:4:sum",
    "faulty_loss-not-divided.clipped": "accumulate:4:sum",
    "faulty_divided-twice": "accumulate:4",
    "right_divided-twice.gradient": "accumulate:4",
    "right_loss-not-divided": "accumulate:4",
    "right_loss-not-divided.tasks": "zero_grad",
    "right_loss-not-divided.two_critics": "zero_grad",
    "right_micro_batches_of_a_batch": "accumulate:4",
    "right_windows_of_two_lines": "accumulate:4",
    "right_several_losses.one_line": "zero_grad",
    "right_half_of_each_loss": "zero_grad",
    "right_amp": "zero_grad",
    "right_amp_accumulation": "accumulate:4",
    "right_autograd_grad": None,
    "right_by_model": "zero_grad",
    "right_by_none": "zero_grad",
    "right_by_zero_in_place": "zero_grad",
    "right_by_zeros": "zero_grad",
    "right_checkpointing_reentrant": "zero_grad",
    "right_ddp": "accumulate:4",
    "right_lbfgs": "zero_grad",
    "right_lightning": "accumulate:2",
    "right_several_losses": "zero_grad",
    "right_transformers": "accumulate:2",
    "right_unused": "zero_grad",
}


@pytest.mark.filterwarnings("ignore")  # as above
@pytest.mark.parametrize("name", MODES)
def test_the_mode_is_told_as_measured(name: str) -> None:
    (optimizer,) = watched(SCRIPTS[name]).optimizers
    assert optimizer.mode == MODES[name]


def test_two_processes_that_average_their_gradients_are_each_audited() -> None:
    command = [sys.executable, "-m", "gradlab", "audit", "--json", str(SCRIPTS["right_ddp"])]
    started = [
        subprocess.Popen(
            command,
            env=os.environ | {"RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    ended = [process.communicate(timeout=120) for process in started]
    for process, (told, talk) in zip(started, ended, strict=True):
        assert process.returncode == 0, talk
        document = json.loads(told)
        assert document["findings"] == []
        assert [(each["mode"], each["updates"]) for each in document["optimizers"]] == [("accumulate:4", 24)]
    sums = {talk.splitlines()[0] for _, talk in ended}  # of the weights, as each script prints it
    assert len(sums) == 1


def test_both_optimizers_of_a_gan_are_told_to_clear() -> None:
    optimizers = watched(SCRIPTS["right_gan"]).optimizers
    assert [(each.mode, each.backwards_per_update, each.updates) for each in optimizers] == [
        ("zero_grad", 1, 24),
        ("zero_grad", 2, 24),
    ]


def test_every_rule_has_a_script_that_shows_it_and_every_script_a_rule() -> None:
    shown = {name.partition("_")[2].partition(".")[0] for name in FAULTY}
    assert {rule.__name__.replace("_", "-") for rule in RULES} == shown
