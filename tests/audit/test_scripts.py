"""Faulty and correct scripts: the audit finds exactly their mistakes, and does not change what they compute.

`faulty_ID.py` must give the finding ID at the lines marked `# here`, `noted_ID.py` a note, `right_*.py` nothing.
`faulty_ID.MORE.py` is another script for the same finding, `right_ID.MORE.py` a correct one close to it. The
docstring of a script says what it is, and after `Instead:` the advice that the audit must give. Comments apply it:

    optimizer.zero_grad()  # -          the corrected script lacks this line
    optimizer.zero_grad()  # - here     the same, and the finding lists the line
    # + optimizer.zero_grad()           the corrected script has this line

A rule that is off by default is chosen for its own scripts, and all such rules are tried on the correct ones.

python -m tests.audit.test_scripts        rewrites scripts/README.md, the table of all scripts
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
from gradlab.audit import Report
from gradlab.audit.findings import DEFAULT, RULES
from tests.processes import start

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = Path(__file__).parents[2] / "docs" / "audit.md"
TABLE = Path(__file__).with_name("scripts") / "README.md"
HEAD = """# Scripts that test the audit

The audit must find exactly the finding in the last column, with default sampling and with `--sample 1`.

In a faulty script, `# here` marks the lines that the finding lists. The docstring ends with the audit's advice, after
`Instead:`. To apply it, remove the lines that end in `# -` or `# - here`, and add the code after `# + `. The audit
finds nothing in the result.

`python -m tests.audit.test_scripts` rewrites this page.

| script | what it is | must be found |
|---|---|---|
"""

SCRIPTS = {file.stem: file for file in sorted(TABLE.parent.glob("*.py"))}
FAULTY = [name for name in SCRIPTS if name.startswith(("faulty_", "noted_"))]
RIGHT = [name for name in SCRIPTS if name.startswith("right_")]
NEED = {f"right_{name}": name for name in ("lightning", "accelerate", "transformers")}  # extra `frameworks`
NEED["noted_last-window-divided-by-n.accelerate"] = "accelerate"
COMPILED = ("right_compiled", "right_compiled_step")
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
REPORTED = {  # by rules that are off by default
    "right_never-cleared.created_each_step": {"state-thrown-away"},  # Adam is made in every step
}
PASSES = {"right_gan": [1, 2]}  # backward passes per update, by optimizer

COUNTED = re.compile(
    r"\b(at|in) (all |any of )?\d+ (of \d+ )?(measured )?(updates|windows)|seen (at )?\d+ (time|updates)"
    r"|\(at the end\)|all \d+ checked backward passes of this line"
)


class Run(NamedTuple):
    """The result of running a script.

    Attributes:
        report: the watch's report, None without a watch.
        left: the tensors in the script's globals, and the state of the random numbers.
    """

    report: Report | None
    left: list[torch.Tensor]


class Expected(NamedTuple):
    """An expected finding."""

    id: str
    is_note: bool
    lines: list[int]


def run(name: str, *, watch: bool = True, sample: int | None = None, source: str | None = None) -> Run:
    """Run a script, or another source under its name, in this process, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stack.callback(os.chdir, Path.cwd())
        os.chdir(folder)
        script = SCRIPTS[name]
        if source is not None:
            script = Path(folder, script.name)
            script.write_text(source, encoding="utf-8")
        wanted = finding_of(name)
        off = ({wanted} if wanted else RULES.keys()) - DEFAULT
        watched = stack.enter_context(audit.watch(sample, select=off)) if watch else None
        left = runpy.run_path(str(script))
    own = {key: each for key, each in left.items() if key[:2] != "__"}
    chosen = DEFAULT | ({wanted} if wanted else set())
    report = Report(watched.history, chosen) if watched else None
    return Run(report, [*tensors_in(own), torch.get_rng_state()])


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Yield all tensors in a value: in models, optimizers, dicts and lists."""
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
    """Return a value that is equal for bit-for-bit equal tensors, even with NaN."""
    dense = tensor.detach() if tensor.layout == torch.strided else tensor.detach().to_dense()
    return dense.dtype, dense.shape, dense.numpy().tobytes()


def finding_of(name: str) -> str | None:
    """Return the id of a script's finding, None for a correct one."""
    return None if name in RIGHT else name.partition("_")[2].partition(".")[0]


def expected(name: str) -> list[Expected]:
    """Return the findings that a script must give, from its name and its marked lines."""
    wanted = finding_of(name)
    source = SCRIPTS[name].read_text(encoding="utf-8").splitlines()
    marked = [nth for nth, line in enumerate(source, 1) if line.endswith(("# here", "# - here"))]
    return [Expected(wanted, name.startswith("noted_"), marked)] if wanted else []


def described(name: str) -> tuple[str, str]:
    """Return what a script is, and the advice that it applies ("" for a correct one), from its docstring."""
    docstring = ast.get_docstring(ast.parse(SCRIPTS[name].read_text(encoding="utf-8"))) or ""
    what, _, advice = (" ".join(part.split()) for part in docstring.partition("\n\nInstead: "))
    return what, advice


def found(report: Report, name: str) -> list[Expected]:
    """Return the findings of a report; lines of other files are 0."""
    file = str(SCRIPTS[name])
    return [
        Expected(each.id, each.severity == "note", [line if at == file else 0 for at, line in each.places])
        for each in report.findings
    ]


def as_param(name: str) -> Any:
    """Return a script as a parameter; slow scripts may warn when they import."""
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

    # The advice is the one that the script applies. With more measured updates, it may be more exact.
    assert [each.instead for each in reports[0].findings] == [advice for advice in [described(name)[1]] if advice]
    if name in RIGHT:
        off = RULES.keys() - DEFAULT
        asked = [{each.id for each in Report(report.history, off).findings} for report in reports]
        assert asked == [REPORTED.get(name, set())] * 2

    # Each message says how often the finding was seen.
    assert [each.message for each in reports[0].findings if not COUNTED.search(each.message)] == []

    # The trace is the same whether an update is measured or not.
    first, second = ([each.stretches for each in report.history.optimizers] for report in reports)
    assert first == second

    if name in MODES:
        assert [each.mode for each in reports[0].optimizers] == MODES[name]
    if name in PASSES:
        assert [each.backwards_per_update for each in reports[0].optimizers] == PASSES[name]
    if name not in NEED:  # these leave nothing in their globals
        without = run(name, watch=False)
        assert list(map(bits, at_each.left)) == list(map(bits, without.left))


@pytest.mark.slow  # two processes
def test_two_processes_that_average_their_gradients() -> None:
    sampling: list[list[str]] = [[], ["--sample", "1"]]
    processes = [
        start("audit", "--json", *options, str(SCRIPTS[DISTRIBUTED]), RANK=str(rank), WORLD_SIZE="2")
        for rank, options in enumerate(sampling)
    ]
    with processes[0], processes[1]:
        ended = [process.wait() for process in processes]
    assert [each.status for each in ended] == [0, 0], [each.stderr for each in ended]
    document = json.loads(ended[0].stdout)  # for both
    assert (document["findings"], ended[1].stdout) == ([], "")
    summaries = [(each["mode"], each["updates"]) for each in document["optimizers"]]
    assert summaries == [("accumulate:4", 24)]
    sums = {each.stderr.splitlines()[0] for each in ended}  # of the weights, printed by the script
    assert len(sums) == 1


def test_every_rule_has_a_script_and_every_script_a_rule() -> None:
    assert set(RULES) == {finding_of(name) for name in FAULTY}


# The table of scripts, and its counts in the documentation


def row(name: str) -> str:
    """Return the table line of a script: its name, its docstring, its finding."""
    what, wanted = described(name)[0], finding_of(name)
    kind = " (note)" if name.startswith("noted_") else ""
    return f"| `{name}` | {what.rstrip('.')} | {f'`{wanted}`{kind}' if wanted else 'nothing'} |\n"


def page() -> str:
    """Return the page that lists all scripts."""
    return HEAD + "".join(row(name) for name in sorted(SCRIPTS))


def test_the_table_lists_every_script() -> None:
    assert TABLE.read_text(encoding="utf-8") == page(), "rewrite it: python -m tests.audit.test_scripts"


def test_the_documentation_counts_the_scripts() -> None:
    prose = " ".join(DOCUMENT.read_text(encoding="utf-8").split())
    counts = re.search(r"tried on (\d+) scripts .* All (\d+) faulty .* all (\d+) correct ones", prose)
    assert counts is not None
    assert [int(each) for each in counts.groups()] == [len(SCRIPTS), len(FAULTY), len(RIGHT)]


if __name__ == "__main__":
    TABLE.write_text(page(), encoding="utf-8")
