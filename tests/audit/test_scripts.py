"""Scripts that are faulty, corrected or right: what the audit finds in them, and that it changes nothing they compute.

`faulty_ID.py` has the finding ID at the lines marked `# here`, `noted_ID.py` a note, `right_*.py` nothing. A further
script of one finding is `faulty_ID.MORE.py`.

python -m tests.audit.test_scripts        runs them and rewrites the table in docs/audit.md
"""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
import tempfile
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch

from gradlab import audit
from gradlab.audit.findings import RULES
from tests.processes import start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlab.audit import Report

DOCUMENT = Path(__file__).parents[2] / "docs" / "audit.md"
HEAD = "| script | what it is | found | false alarms |\n|---|---|---|---|\n"

SCRIPTS = {file.stem: file for file in sorted(Path(__file__).with_name("scripts").glob("*.py"))}
FAULTY = [name for name in SCRIPTS if name.startswith(("faulty_", "noted_"))]
RIGHT = [name for name in SCRIPTS if name.startswith("right_")]
NEED = {f"right_{name}": name for name in ("lightning", "accelerate", "transformers")}  # the extra `frameworks`
COMPILED = {"right_compiled", "right_compiled_step"}
DISTRIBUTED = "right_ddp"

MODES: dict[str, list[str | None]] = {  # by optimizer
    "faulty_never-cleared": ["no_zero_grad"],
    "faulty_accumulation-without-effect": ["zero_grad"],
    "faulty_accumulation-without-effect.in_place": ["zero_grad"],
    "faulty_cleared-before-step.in_place": [None],
    "faulty_cleared-once-an-epoch": [None],
    "noted_partly-kept": ["halve_grad"],
    "noted_partly-kept.decay": ["decay:0.9"],
    "right_accelerate": ["accumulate:2"],
    "right_accumulation-without-effect": ["accumulate:4"],
    "right_accumulation-without-effect.summed_by_hand": ["zero_grad"],
    "noted_loss-not-divided": ["accumulate:4:sum"],
    "faulty_loss-not-divided.clipped": ["accumulate:4:sum"],
    "faulty_divided-twice": ["accumulate:4"],
    "right_divided-twice.gradient": ["accumulate:4"],
    "right_loss-not-divided": ["accumulate:4"],
    "right_loss-not-divided.tasks": ["zero_grad"],
    "right_loss-not-divided.two_critics": ["zero_grad"],
    "right_micro_batches_of_a_batch": ["accumulate:4"],
    "right_windows_of_two_lines": ["accumulate:4"],
    "right_several_losses.one_line": ["zero_grad"],
    "right_half_of_each_loss": ["zero_grad"],
    "right_amp": ["zero_grad"],
    "right_amp_accumulation": ["accumulate:4"],
    "right_autograd_grad": [None],
    "right_by_model": ["zero_grad"],
    "right_by_none": ["zero_grad"],
    "right_by_zero_in_place": ["zero_grad"],
    "right_by_zeros": ["zero_grad"],
    "right_checkpointing_reentrant": ["zero_grad"],
    "right_gan": ["zero_grad", "zero_grad"],
    "right_lbfgs": ["zero_grad"],
    "right_lightning": ["accumulate:2"],
    "right_several_losses": ["zero_grad"],
    "right_transformers": ["accumulate:2"],
    "right_unused": ["zero_grad"],
}
PASSES = {"right_gan": [1, 2]}  # backward passes for each update, by optimizer

COUNTED = re.compile(
    r"\b(at|in) (all |any of )?\d+ (of \d+ )?(updates|windows)|of each of \d+ epochs|seen (at )?\d+ (time|updates)"
    r"|all \d+ backward passes of this line"
)


class Run(NamedTuple):
    """A script that has been run.

    Attributes:
        report: of the watch, None without one.
        left: the tensors that it leaves in its globals, and the state of the random numbers.
    """

    report: Report | None
    left: list[torch.Tensor]


class Expected(NamedTuple):
    """A finding, as far as the script says what it is."""

    id: str
    is_note: bool
    lines: list[int]


def run(name: str, *, watch: bool = True, sample: int | None = None) -> Run:
    """Run a script in this process, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stack.callback(os.chdir, Path.cwd())
        os.chdir(folder)
        report = stack.enter_context(audit.watch(sample)) if watch else None
        left = runpy.run_path(str(SCRIPTS[name]))
    own = {key: each for key, each in left.items() if key[:2] != "__"}
    return Run(report, [*tensors_in(own), torch.get_rng_state()])


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in what a script leaves: of models and optimizers, in dicts and lists."""
    if isinstance(value, torch.Tensor):
        yield value
        if (value.is_leaf or value.retains_grad) and value.grad is not None:
            yield value.grad
    elif isinstance(value, torch.nn.Module):
        yield from tensors_in([*value.parameters(), *value.buffers()])
    elif isinstance(value, torch.optim.Optimizer):
        yield from tensors_in(value.state_dict())
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors_in(each)


def bits(tensor: torch.Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
    """Return what is equal where two tensors are equal to the last bit, a NaN too."""
    dense = tensor.detach() if tensor.layout == torch.strided else tensor.detach().to_dense()
    return dense.dtype, dense.shape, dense.numpy().tobytes()


def finding_of(name: str) -> str | None:
    """Return the id of what there is to find in a script."""
    return None if name in RIGHT else name.partition("_")[2].partition(".")[0]


def expected(name: str) -> list[Expected]:
    """Return what there is to find in a script, by its name and the lines that it marks."""
    wanted = finding_of(name)
    source = SCRIPTS[name].read_text(encoding="utf-8").splitlines()
    marked = [nth for nth, line in enumerate(source, 1) if line.endswith("# here")]
    return [Expected(wanted, name.startswith("noted_"), marked)] if wanted else []


def found(report: Report, name: str) -> list[Expected]:
    """Return what was found; a line of another file than the script is 0."""
    file = str(SCRIPTS[name])
    return [
        Expected(each.id, each.severity == "note", [line if at == file else 0 for at, line in each.places])
        for each in report.findings
    ]


def as_param(name: str) -> Any:
    """Return a script as a parameter: slow where it takes seconds; then its imports may warn."""
    slow = (pytest.mark.slow, pytest.mark.filterwarnings("ignore"))
    return pytest.param(name, marks=slow if name in {*COMPILED, *NEED} else ())


@pytest.mark.parametrize("name", [as_param(name) for name in SCRIPTS if name != DISTRIBUTED])
def test_what_is_claimed_of_a_script(name: str) -> None:
    if name in NEED and find_spec(NEED[name]) is None:
        pytest.skip(f"needs {NEED[name]}")
    by_default, at_each = run(name), run(name, sample=1)
    reports = [each.report for each in (by_default, at_each) if each.report is not None]
    assert [report.history.faults for report in reports] == [[], []]
    assert [found(report, name) for report in reports] == [expected(name)] * 2

    # Each message says how often the finding was seen.
    assert [each.message for each in reports[0].findings if not COUNTED.search(each.message)] == []

    # What happens is noted alike whether an update is measured or not.
    first, second = ([each.stretches for each in report.history.optimizers] for report in reports)
    assert first == second

    if name in MODES:
        assert [each.mode for each in reports[0].optimizers] == MODES[name]
    if name in PASSES:
        assert [each.backwards_per_update for each in reports[0].optimizers] == PASSES[name]
    if name not in NEED:  # which leave nothing in their globals
        without = run(name, watch=False)
        assert list(map(bits, at_each.left)) == list(map(bits, without.left))


@pytest.mark.slow  # two processes that make an optimizer
def test_two_processes_that_average_their_gradients() -> None:
    sampling: list[list[str]] = [[], ["--sample", "1"]]
    processes = [
        start("audit", "--json", *options, str(SCRIPTS[DISTRIBUTED]), RANK=str(rank), WORLD_SIZE="2")
        for rank, options in enumerate(sampling)
    ]
    with processes[0], processes[1]:
        ended = [process.wait() for process in processes]
    assert [each.status for each in ended] == [0, 0], [each.stderr for each in ended]
    documents = [json.loads(each.stdout) for each in ended]
    assert [document["findings"] for document in documents] == [[], []]
    told = [(each["mode"], each["updates"]) for document in documents for each in document["optimizers"]]
    assert told == [("accumulate:4", 24)] * 2
    sums = {each.stderr.splitlines()[0] for each in ended}  # of the weights, as each script prints it
    assert len(sums) == 1


def test_every_rule_has_a_script_and_every_script_a_rule() -> None:
    assert {rule.__name__.replace("_", "-") for rule in RULES} == {finding_of(name) for name in FAULTY}


def test_every_faulty_script_has_a_corrected_one() -> None:
    faulty = {finding_of(name) for name in FAULTY if name.startswith("faulty_")}
    assert {name for name in faulty if f"right_{name}" not in SCRIPTS} == set()


def test_every_finding_is_documented() -> None:
    rows = {line.split("`")[1] for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| `")}
    assert {finding_of(name) for name in FAULTY} <= rows


# The table in the documentation


def row(name: str, ids: list[str]) -> str:
    """Return the line of a script in which these were found."""
    what = (ast.get_docstring(ast.parse(SCRIPTS[name].read_text(encoding="utf-8"))) or "").rstrip(".")
    wanted = finding_of(name)
    true = f"`{wanted}`" if wanted in ids else "nothing"
    return f"| `{name}` | {what} | {true} | {sum(each != wanted for each in ids)} |\n"


def summary(by_name: dict[str, list[str]]) -> str:
    """Return the sentence that counts the table up."""
    alarms = {name: ids for name, ids in by_name.items() if finding_of(name)}
    true = sum(finding_of(name) in ids for name, ids in alarms.items())
    false = sum(each != finding_of(name) for name, ids in by_name.items() for each in ids)
    return (
        f"In {true} of {len(alarms)} scripts that are faulty or worth a note it is found; "
        f"{len(by_name) - len(alarms)} are right; {false} false alarms.\n"
    )


def table(by_name: dict[str, list[str]]) -> str:
    """Return the table of what was found by name of script, and the sentence that counts it up."""
    return HEAD + "".join(row(name, ids) for name, ids in by_name.items()) + "\n" + summary(by_name)


def test_the_table_lists_what_every_script_is_tested_for() -> None:
    by_name = {name: [each.id for each in expected(name)] for name in sorted(SCRIPTS)}
    assert table(by_name) in DOCUMENT.read_text(encoding="utf-8"), "rewrite it: python -m tests.audit.test_scripts"


def main() -> None:
    """Run all scripts, by default and with each update measured, and rewrite the table in the document."""
    by_name: dict[str, list[str]] = {}
    for name in sorted(SCRIPTS):
        reports = [run(name, sample=sample).report for sample in (None, 1)]
        by_name[name] = [each.id for report in reports if report for each in report.findings]
    text = DOCUMENT.read_text(encoding="utf-8")
    before, after = text.index("| script |"), text.index("\n## Manners")
    DOCUMENT.write_text(text[:before] + table(by_name) + text[after:], encoding="utf-8")


if __name__ == "__main__":
    main()
