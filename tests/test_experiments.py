"""What experiments/README.md says of the shipped experiments is what they do."""

from __future__ import annotations

import math
import re
from importlib.util import module_from_spec, spec_from_file_location
from itertools import combinations, islice
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import pytest
import torch
from typer.testing import CliRunner

from gradlab import experiment, optimizers, runs, tasks
from gradlab import sweeps as sweep
from gradlab.analysis import curves
from gradlab.analysis.intervals import paired_difference
from gradlab.cli import app
from gradlab.experiment import Override
from gradlab.modes import Mode, parse

if TYPE_CHECKING:
    from gradlab.analysis.results import Result

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
WITH = ["1.5", "1.4", "1.3", "1.2"]
WITHOUT = ["1.4", "1.9", "2.0", "2.8", "3.5"]


def epoch_means() -> dict[str, list[float]]:
    outcome = runs.run(experiment.load("diverging_loss"))
    return {run.mode: curves.epoch_means(run.rows) for run in outcome.runs}


def test_diverging_loss_matches_the_thread_to_one_decimal() -> None:
    means = epoch_means()
    assert [f"{mean:.1f}" for mean in means["zero_grad"][:4]] == WITH
    assert [f"{mean:.1f}" for mean in means["no_zero_grad"]] == WITHOUT


def test_diverging_loss_is_safe_from_rounding_on_other_cpus() -> None:
    means = epoch_means()
    nine = zip([*means["zero_grad"][:4], *means["no_zero_grad"]], [*WITH, *WITHOUT], strict=True)
    assert max(abs(mean - float(wanted)) for mean, wanted in nine) < 0.05 - 0.02


def test_diverging_loss_values_are_not_hard_coded() -> None:
    texts = {file.name: file.read_text(encoding="utf-8") for file in EXPERIMENTS.parent.glob("gradlab/**/*.py")}
    assert "curves.py" in texts
    assert [name for name, text in texts.items() if re.search(r"1\.5.{0,4}1\.4.{0,4}1\.3", text)] == []


def test_the_unrounded_means_in_the_readme_are_those_of_the_run() -> None:
    text = (EXPERIMENTS / "README.md").read_text(encoding="utf-8")
    of_modes = epoch_means()
    assert list(of_modes) == ["zero_grad", "no_zero_grad", "halve_grad"]
    for mode, means in of_modes.items():
        assert f"| `{mode}` | " + " | ".join(f"{mean:.3f}" for mean in means) + " |" in text


@pytest.mark.parametrize(
    ("name", "verdicts"),
    [
        ("diverging_loss", {"zero_grad": ["falls"], "no_zero_grad": ["rises"], "halve_grad": ["falls"]}),
        ("straight_line", {"zero_grad": ["falls"], "no_zero_grad": ["oscillates"], "halve_grad": ["falls"]}),
        ("straight_line_mse", {"zero_grad": ["falls"], "no_zero_grad": ["oscillates"], "halve_grad": ["falls"]}),
        pytest.param(
            "digits",
            {
                "zero_grad": ["falls"] * 10,
                "no_zero_grad": ["falls"] * 2 + ["oscillates"] + ["rises"] * 7,
                "halve_grad": ["falls"] * 10,
            },
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_verdicts_are_those_of_the_readme(name: str, verdicts: dict[str, list[str]]) -> None:
    found: dict[str, list[str]] = {}
    for run in runs.run(experiment.load(name)).runs:
        found.setdefault(run.mode, []).append(str(run.verdict))
    assert {mode: sorted(each) for mode, each in found.items()} == verdicts


def test_all_expectations_of_smoke_hold() -> None:
    outcome = runs.run(experiment.load("smoke"))
    assert len(outcome.expectations) == 15
    assert outcome.ok


@pytest.mark.parametrize(("one", "other"), [*combinations(experiment.load("smoke").modes, 2)])
def test_smoke_fails_when_two_modes_are_swapped_in_the_code(
    one: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(word: str, _folder: Path | None = None) -> Mode:
        asked = parse(word)
        wrong = {one: other, other: one}.get(asked.name)
        return tuple.__new__(Mode, (asked.name, *parse(wrong)[1:])) if wrong else asked  # what no call can make

    monkeypatch.setattr("gradlab.modes.parse", swapped)
    outcome = runs.run(experiment.load("smoke"))
    assert {each.mode for each in outcome.expectations if not each.ok} == {one, other}


# Each system: what its finding says, on some of its seeds


def trained(name: str, seeds: list[int] | None = None, **values: object) -> dict[str, list[Result]]:
    """Return the runs of a shipped experiment by mode, of these seeds alone; `values` are put over the file's."""
    changed = {"seeds": seeds} if seeds else {}
    overrides = [Override(tuple(key.split("__")), value, key) for key, value in (changed | values).items()]
    found: dict[str, list[Result]] = {}
    for run in runs.run(experiment.load(name, overrides)).runs:
        found.setdefault(run.mode, []).append(run)
    return found


def last_epochs(results: list[Result]) -> list[float]:
    return [curves.epoch_means(run.rows)[-1] for run in results]


def optimizer_table() -> list[list[str]]:
    """Return the cells of the table of modes by optimizer in experiments/README.md."""
    text = (EXPERIMENTS / "README.md").read_text(encoding="utf-8")
    _, _, *lines = text[text.index("| optimizer | lr |") :].partition("\n\n")[0].splitlines()
    return [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in lines]


@pytest.mark.slow
def test_kept_gradient_turns_away_from_the_fresh_one_by_keep() -> None:
    found = trained("gradient_cosine", [0])
    ends = {mode: fmean(row.geometry.cosine for row in run.rows if row.geometry and row.epoch == 9)
            for mode, (run,) in found.items()}  # fmt: skip
    assert ends["zero_grad"] == 1.0
    assert ends["halve_grad"] == pytest.approx(math.sqrt(1 - 0.5**2), abs=0.06)  # the range of the seeds
    assert ends["decay:0.9"] == pytest.approx(math.sqrt(1 - 0.9**2), abs=0.17)
    assert 0.0 < ends["no_zero_grad"] < 0.11


@pytest.mark.slow
def test_adam_without_zero_grad_rises_in_all_seeds_but_one() -> None:
    found = trained("adam_linear", [0, 1])
    verdicts = {mode: [str(run.verdict) for run in each] for mode, each in found.items()}
    assert verdicts == {
        "zero_grad": ["falls", "falls"],
        "no_zero_grad": ["rises", "falls"],
        "halve_grad": ["falls", "falls"],
    }


@pytest.mark.slow
def test_descent_by_hand_is_sgd_in_every_row_of_its_experiment() -> None:
    vanilla = trained("vanilla_descent")
    sgd = trained("vanilla_descent", optimizer__name="sgd", optimizer__lr=0.0005)
    assert {mode: run.rows for mode, (run,) in vanilla.items()} == {mode: run.rows for mode, (run,) in sgd.items()}
    assert {mode: f"{last_epochs(each)[0]:.3g}" for mode, each in vanilla.items()} == {
        "zero_grad": "3.72", "no_zero_grad": "768", "halve_grad": "0.566"
    }  # fmt: skip
    assert [str(run.verdict) for (run,) in vanilla.values()] == ["falls", "rises", "falls"]


@pytest.mark.slow
def test_zeros_are_faster_at_first_and_worse_with_idle_heads() -> None:
    none, fill = trained("set_to_none", [2]).values()
    means = {run.mode: curves.epoch_means(run.rows) for run in (*none, *fill)}
    assert means["zero_grad:fill"][0] < 0.7 * means["zero_grad"][0]
    assert means["zero_grad:fill"][-1] > 1.5 * means["zero_grad"][-1]


@pytest.mark.slow
def test_four_micro_batches_of_8_equal_a_batch_of_32() -> None:
    (small,), (large,) = trained("fine_tuning")["accumulate:4"], trained("fine_tuning_batch_32")["zero_grad"]
    assert (small.steps, small.updates, large.updates) == (3 * 225, 3 * 57, 3 * 57)
    windows, batches = (curves.curve(run.rows, "update").y for run in (small, large))
    # float32 rounds each loss at 6·10⁻⁸ of it, and its updates round the weights; 171 of them add up to some of that.
    assert windows == pytest.approx(batches, rel=1e-6)


def test_the_last_window_of_the_fine_tuning_is_one_batch_of_five() -> None:
    small, large = (tasks.build(tasks.find("digits"), 0, {"batch_size": size}) for size in (8, 32))
    pieces, whole = list(small.batches), list(large.batches)
    assert (len(pieces) % 4, len(pieces[-1][0]), len(whole[-1][0])) == (1, 5, 5)
    for nth, (x, _) in enumerate(whole):
        assert torch.equal(torch.cat([piece for piece, _ in pieces[4 * nth : 4 * nth + 4]]), x)


@pytest.mark.slow
def test_the_mean_of_means_settles_at_a_worse_loss() -> None:
    right, wrong = trained("unequal_batches", [0, 4]).values()
    assert [bad / good - 1 for good, bad in zip(last_epochs(right), last_epochs(wrong), strict=True)] == pytest.approx(
        [0.45, 0.50], abs=0.01
    )  # as the finding rounds them, and its range


@pytest.mark.parametrize(("seed", "size"), [(0, 0.96), (2, 0.40)])
def test_mean_of_means_gradient_is_off_as_the_finding_says(seed: int, size: float) -> None:
    task = tasks.build(tasks.find("mixed_lengths"), seed, {})
    (table,) = task.model.parameters()
    pairs = [task.loss(task.model, tokens) for tokens in islice(task.batches, 4)]
    total, count = sum(loss for loss, _ in pairs), sum(number for _, number in pairs)
    (right,) = torch.autograd.grad(total / count, table, retain_graph=True)
    (wrong,) = torch.autograd.grad(sum(loss / number for loss, number in pairs) / 4, table)
    assert ((wrong - right).norm() / right.norm()).item() == pytest.approx(size, abs=0.005)


@pytest.mark.slow
def test_chunked_sequence_is_learned_by_either_update_schedule() -> None:
    found = trained("truncated_bptt", [0])
    assert [f"{last_epochs(each)[0]:.2f}" for each in found.values()] == ["0.05", "0.05"]
    assert [str(run.verdict) for (run,) in found.values()] == ["falls", "falls"]
    assert [run.updates for (run,) in found.values()] == [80, 800]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "sign"), [("halving", -1), ("halving_matched_lr", 1)])
def test_halving_is_faster_at_one_lr_slower_at_one_effective_lr(name: str, sign: int) -> None:
    cleared, *kept = (last_epochs(each)[0] for each in trained(name, [0]).values())
    differences = [sign * (each - cleared) for each in kept]
    assert 0 < differences[0] < differences[1] < differences[2]  # the more is kept, the more of either


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kept"),
    [("halving", 3), ("halving_matched_lr", 3), ("digits", 1), ("own_mode", 1)],
)
def test_paired_differences_lie_in_the_published_intervals(name: str, kept: int) -> None:
    text = (EXPERIMENTS / "README.md").read_text(encoding="utf-8")
    finding = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
    told = {
        {"halved": "halve_grad", "clear_now_and_then": "own_mode.py:clear_now_and_then"}.get(mode, mode): (mean, half)
        for mode, mean, half in re.findall(r"([\w:.]+) ([−+][\d.]+) ± ([\d.]*\d)", finding)
        if mode != "no_zero_grad"  # differs too much from seed to seed
    }
    cleared, *others = trained(name, [0, 1, 2], modes=["zero_grad", *told]).items()
    assert cleared[0] == "zero_grad"
    assert len(others) == kept
    for mode, results in others:
        found = paired_difference(last_epochs(results), last_epochs(cleared[1]))
        assert found
        mean, half = (float(each.replace("−", "-")) for each in told[mode])
        assert abs(found.mean - mean) <= half, mode


@pytest.mark.slow
@pytest.mark.parametrize("cells", optimizer_table(), ids=lambda cells: cells[0])
def test_the_verdicts_by_optimizer_are_those_of_its_table(cells: list[str]) -> None:
    name, lr, *verdicts = cells
    found = trained("optimizers", [0], optimizer__name=name, optimizer__lr=float(lr))
    assert [str(run.verdict) for (run,) in found.values()] == [words.split(", ")[0] for words in verdicts]


def test_optimizer_table_lists_all_but_two_special_optimizers() -> None:
    assert {cells[0] for cells in optimizer_table()} == set(optimizers.names()) - {"Muon", "SparseAdam"}


# Maps of lr × keep


def mapped(name: str, lrs: str, keeps: str, seeds: list[int], steps: int) -> dict[tuple[float, float, int], str]:
    """Return the verdict of each run of a shipped sweep, by lr, keep and seed, over a smaller grid of these ranges."""
    overrides = [Override((key,), value, key) for key, value in {"seeds": seeds, "steps": steps}.items()]
    grid = sweep.grid_of(experiment.load(name, overrides), [f"lr={lrs}", f"keep={keeps}"])
    found = sweep.run(grid, workers=1, chunk=grid.runs).folder.results()
    assert {block.engine for block in found.blocks} == {"ensemble"}
    points = [(*grid.run(nth).values, grid.run(nth).seed) for nth in range(grid.runs)]
    return dict(zip(points, found.column("verdict", grid.runs), strict=True))


def test_full_batches_diverge_at_the_theoretical_edge() -> None:
    verdicts = mapped("phase_full_batch", "0.25:4:17:log", "0:1:9", [0, 5], 200)
    lrs, keeps, seeds = (sorted(set(each)) for each in zip(*verdicts, strict=True))
    spacing = lrs[1] / lrs[0]
    for seed in seeds:
        ((x, _),) = tasks.build(tasks.find("noisy_line"), seed, {"batch_size": 40}).batches
        inputs = torch.cat([x, torch.ones_like(x)], dim=1).double()
        curvature = 2 * torch.linalg.eigvalsh(inputs.T @ inputs / len(x))[-1].item()  # of the mean squared error
        for keep in keeps:
            edge = 2 * (1 + keep) / curvature
            gone = [verdicts[lr, keep, int(seed)] == "diverges" for lr in lrs]
            assert gone == sorted(gone)
            assert edge / spacing < lrs[gone.index(True)] < edge * spacing**2, (seed, keep)


def test_single_samples_have_no_safe_lr_at_keep_1() -> None:
    verdicts = mapped("phase_mini_batches", "0.1:1:2", "0.5:1:2", [0, 1], 240)
    assert {verdict for (_, keep, _), verdict in verdicts.items() if keep == 1} == {"diverges"}
    assert {verdict for (lr, keep, _), verdict in verdicts.items() if (lr, keep) == (1.0, 0.5)} == {"diverges"}
    assert "diverges" not in {verdict for (lr, keep, _), verdict in verdicts.items() if (lr, keep) == (0.1, 0.5)}


@pytest.mark.parametrize("name", ["phase_full_batch", "phase_mini_batches", "phase_digits"])
def test_what_varies_is_refused_by_run_which_names_sweep(name: str) -> None:
    answer = CliRunner().invoke(app, ["run", name])
    assert answer.exit_code == 2
    assert f"experiment '{name}' varies lr, keep: use `gradlab sweep`" in answer.stderr


def test_map_findings_name_the_grid_of_their_files() -> None:
    text = (EXPERIMENTS / "README.md").read_text(encoding="utf-8")
    for name in ("phase_full_batch", "phase_mini_batches", "phase_digits"):
        grid = sweep.grid_of(experiment.load(name))
        lrs, keeps = (len(axis.values) for axis in grid.axes)
        (row,) = [line for line in text.splitlines() if f"`gradlab sweep {name}`" in line]
        assert f"{lrs} × {keeps} × {len(grid.seeds)} = {grid.runs:,} runs" in row


def test_set_to_none_measurement_finds_the_gradient_bytes() -> None:
    spec = spec_from_file_location("measure_set_to_none", EXPERIMENTS / "measure_set_to_none.py")
    assert spec
    assert spec.loader
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    held = [script.measure(4, set_to_none=each, width=16, layers=2, steps=1)["held"] for each in (True, False)]
    assert held == [0, 2 * 16 * 16 * 4]  # bytes: two matrices of float32
