"""gradlab compare on the command line, and other commands on its folders."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from gradlab import plotting, store
from gradlab.cli import app
from gradlab.comparison import processes
from gradlab.plotting.lines import lines_of
from tests.comparison import fake_child
from tests.comparison.test_comparing import RANDOM, TRAINS

if TYPE_CHECKING:
    from typer.testing import Result

KEYS = ["mode", "seed", "status", "verdict", "steps", "updates", "first_loss", "last_loss", "best_loss", "seconds",
        "cached", "folder", "imposed", "imposed_share", "imposed_reason"]  # fmt: skip


@pytest.fixture(autouse=True)
def _fake(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_CHILD", fake_child.CODE)
    monkeypatch.setenv("FAKE_STARTS", str(folder.parent / f"starts of {folder.name}"))
    Path("train.py").write_text(TRAINS)


def gradlab(*words: str, columns: int = 80) -> Result:
    return CliRunner().invoke(app, list(words), prog_name="gradlab", env={"COLUMNS": str(columns)})


def test_the_screen_of_a_comparison() -> None:
    answer = gradlab("compare", "train.py", "--lr", "0.1")
    assert answer.exit_code == 0
    lines = [line.rstrip() for line in answer.stdout.splitlines()]
    assert lines[0] == "as written: no_zero_grad (keep 1). With zero_grad the last epoch's loss is 45 instead of 48.5."
    assert [line.split() for line in lines[1:6]] == [
        ["mode", "first", "last", "best", "last", "epoch", "curve", "verdict"],
        ["as_written", "52", "47.5", "47.5", "48.5", "█▁", "falls"],
        ["zero_grad", "52", "43", "43", "45", "█▁", "falls"],
        ["no_zero_grad", "52", "47.5", "47.5", "48.5", "█▁", "falls"],
        ["halve_grad", "52", "45.25", "45.25", "46.75", "█▁", "falls"],
    ]
    assert lines[6:] == [
        "last line printed",
        " as_written    done with None",
        " zero_grad     done with zero_grad",
        " no_zero_grad  done with no_zero_grad",
        " halve_grad    done with halve_grad",
        "logs: runs/train",
    ]
    assert answer.stderr.splitlines() == [
        "1/4 as_written seed 42: done",
        "4 runs; the 3 left and a second run of as_written take about 2 s.",
        "2/4 zero_grad seed 42: done",
        "3/4 no_zero_grad seed 42: done",
        "4/4 halve_grad seed 42: done",
        "To draw: gradlab plot runs/train",
    ]
    again = gradlab("compare", "train.py", "--lr", "0.1")
    assert again.stdout == answer.stdout
    assert again.stderr.splitlines()[0] == "Reusing 4 of 4 finished runs (--fresh retrains)."


def test_a_quiet_comparison_has_no_messages() -> None:
    answer = gradlab("compare", "--quiet", "-m", "zero_grad", "train.py")
    assert (answer.exit_code, answer.stderr) == (0, "")


def test_words_after_the_script_belong_to_it() -> None:
    Path("train.py").write_text("import sys; print(sys.argv[1:]); loss(1.0), step()")
    answer = gradlab("compare", "--json", "-m", "zero_grad", "train.py", "-m", "x", "--json", "--help")
    document = json.loads(answer.stdout)
    assert document["runs"][0]["last_line"] == "['-m', 'x', '--json', '--help']"


def test_a_module_is_run_by_its_name() -> None:
    answer = gradlab("compare", "-m", "zero_grad", "--module", "no.such")
    assert (answer.exit_code, answer.stderr) == (
        2,
        "module 'no.such' has no .py file here or among installed packages\n",
    )
    answer = gradlab("compare", "-m", "zero_grad", "--module", "json.tool")
    assert "is not in this folder, so its runs cannot have a copy of it" in answer.stderr


def test_json_has_the_keys_of_the_contract() -> None:
    document = json.loads(gradlab("compare", "--json", "--seed", "3", "train.py").stdout)
    assert [*document][:4] == ["script", "folder", "runs", "expectations"]
    assert (document["script"], document["folder"]) == ("train.py", "runs/train")
    written, *others = document["runs"]
    assert written["mode"] == "as_written"
    assert written["measured"] == {"mode": "no_zero_grad", "keep": 1.0}
    assert all([key for key in run if key in KEYS] == KEYS for run in document["runs"])
    assert [run["imposed"] for run in others] == ["yes"] * 3
    assert not any("measured" in run for run in others)


@pytest.mark.parametrize(
    ("script", "status", "text"),
    [
        (TRAINS, 0, ""),
        (TRAINS + "raise ValueError('late')", 1, "ValueError: late"),
        (TRAINS + "report(good=0)", 1, ""),
        ("report(refused='it uses FSDP')", 2, "train.py cannot be compared: it uses FSDP."),
        ("loss(1.0)", 3, "train.py exited with 0, and no optimizer took a step"),
    ],
)
def test_exit_statuses(script: str, status: int, text: str) -> None:
    Path("train.py").write_text(script)
    answer = gradlab("compare", "-m", "zero_grad", "train.py")
    assert answer.exit_code == status
    assert text in answer.stderr
    answer = gradlab("compare", "--json", "-m", "zero_grad", "train.py")
    document = json.loads(answer.stdout)
    assert document.get("error", {}).get("exit_status", answer.exit_code) == answer.exit_code == status


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nope.py"], "script 'nope.py' cannot be read: No such file or directory"),
        (["."], "script '.' is a folder; give a file in it, or --module package.module"),
        (["-m", "hlve", "train.py"], "unknown mode 'hlve'"),
        (["-m", "as_written", "train.py"], "unknown mode 'as_written'"),
        (["-m", "train.py:nope", "train.py"], "nope"),
        (["--seed", "1", "--seeds", "2", "train.py"], "--seeds and --seed exclude each other"),
        (["--seed", "-1", "train.py"], "--seed must be between 0 and 4294967295, got -1"),
        (["--plot", "a.gif", "train.py"], "a.gif"),
        (["--jobs", "0", "train.py"], "--jobs"),
    ],
)
def test_mistakes_are_found_before_the_script_runs(words: list[str], message: str) -> None:
    answer = gradlab("compare", *words)
    assert answer.exit_code == 2
    assert message in answer.stderr
    assert not Path("runs").exists()


def test_a_mode_that_was_not_imposed_is_marked_everywhere() -> None:
    Path("train.py").write_text(
        TRAINS + "report(good=1, faults={'it clears': 1}) if job.mode == 'zero_grad' else 0\n"
        "report(good=19, faults={'it clips': 1}) if job.mode == 'halve_grad' else 0"
    )
    answer = gradlab("compare", "--plot", "loss.svg", "train.py")
    assert answer.exit_code == 1
    shown = gradlab("show", "runs/train")
    for screen in (answer, shown):
        cells = [line.split()[:2] for line in screen.stdout.splitlines() if re.match(r" \w+ +(yes|no|appr)", line)]
        assert cells == [
            ["as_written", "yes"], ["zero_grad", "no"], ["no_zero_grad", "yes"], ["halve_grad", "approximate"],
        ]  # fmt: skip
    lines = answer.stdout.splitlines()
    assert "zero_grad was not imposed; it holds at 50 % of the updates: it clears" in lines
    assert "halve_grad was imposed at 95 % of the updates: it clips" in lines
    assert lines[0] == "as written: no_zero_grad (keep 1)."  # nothing is claimed of zero_grad
    assert names_of("runs/train") == [
        "as_written", "zero_grad, not imposed", "no_zero_grad", "halve_grad, approximate",
    ]  # fmt: skip
    runs = json.loads(gradlab("show", "--json", "runs/train").stdout)["runs"]
    assert [run["imposed"] for run in runs] == ["yes", "no", "yes", "approximate"]


def recorded(folder: str) -> list[Any]:
    runs = store.ExperimentFolder(Path(folder)).runs()
    return [(run.read(), run.rows().rows) for run in runs]


def names_of(folder: str) -> list[str]:
    order = ["as_written", "zero_grad", "no_zero_grad", "halve_grad"]
    runs = sorted(recorded(folder), key=lambda run: order.index(run[0].mode))
    return [line.name for line in lines_of(runs, "step")]


def test_the_script_as_written_is_drawn_in_black() -> None:
    gradlab("compare", "-m", "zero_grad", "-m", "decay:0.9", "-m", "keep=2", "train.py")
    lines = {line.name: line for line in lines_of(recorded("runs/train"), "step")}
    assert lines["as_written"].colour == "#000000"
    assert lines["zero_grad"].colour == "#0072B2"
    assert len({line.colour for line in lines.values()}) == 4
    assert len({str(line.dash) for line in lines.values()}) == 4


def test_plot_draws_a_comparison_without_theory() -> None:
    gradlab("compare", "train.py")
    assert gradlab("plot", "runs/train").exit_code == 0
    assert Path("runs/train/loss.png").stat().st_size > 10_000
    answer = gradlab("plot", "--theory", "runs/train")
    assert answer.exit_code == 2
    assert "No theory to draw" in answer.stderr
    assert plotting.draw(recorded("runs/train")).axes[0].get_xlabel() == "epoch"


def test_list_and_export_read_a_comparison() -> None:
    gradlab("compare", "-m", "zero_grad", "train.py")
    table = gradlab("list").stdout.splitlines()
    assert [line.split()[:5] for line in table[1:]] == [
        ["train", "as_written", "42", "done", "10"],
        ["train", "zero_grad", "42", "done", "10"],
    ]
    lines = gradlab("export", "runs/train", "--to", "csv").stdout.splitlines()
    assert lines[0].startswith("experiment,mode,seed,step,update,epoch,loss")
    assert lines[1:3] == ["train,as_written,42,0,0,0,52.0,1", "train,as_written,42,1,1,0,51.5,1"]
    assert len(lines) == 21


def test_seeds_are_paired() -> None:
    answer = gradlab("compare", "--seeds", "3", "-m", "zero_grad", "train.py")
    text = " ".join(answer.stdout.split())
    assert "loss, median of 3 seeds" in text
    assert "-3.5±0*" in text
    assert "last-epoch loss minus as_written's, paired by seed (n=3)" in text
    assert "zero_grad 2 done with zero_grad" in text
    assert "−" in gradlab("show", "runs/train").stdout


def test_one_seed_of_a_script_that_seeds_itself_has_no_interval() -> None:
    Path("train.py").write_text("report(weights='same')" + TRAINS)
    answer = gradlab("compare", "--seeds", "3", "-m", "zero_grad", "train.py")
    assert "±" not in answer.stdout
    assert "The script seeds itself" in answer.stderr


def test_the_spread_is_shown_beside_the_difference() -> None:
    Path("train.py").write_text(RANDOM)
    answer = gradlab("compare", "-m", "zero_grad", "train.py")
    assert re.match(
        r"as written: no_zero_grad \(keep 1\)\. With zero_grad the loss of the last tenth of the steps is 1\.?\d* "
        r"instead of 1\.?\d* \(a second run differs by \S+\)\.$",
        answer.stdout.splitlines()[0],
    )
    assert "last tenth" in answer.stdout.splitlines()[1]


def test_a_damaged_log_names_the_command() -> None:
    gradlab("compare", "-m", "zero_grad", "train.py")
    (rows,) = Path("runs/train").glob("zero_grad-*/metrics.jsonl")
    rows.write_text("")
    assert "`gradlab compare` retrains it" in gradlab("show", "runs/train").stderr
    assert "2/2 zero_grad seed 42: done" in gradlab("compare", "-m", "zero_grad", "train.py").stderr
